//! Relative links of the Markdown files: the file must exist, and so must the heading.

use std::collections::BTreeSet;

use super::{Files, Findings};

pub(super) fn check(files: &Files, paths: &[String], found: &mut Findings) {
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, link) in links(text) {
            if let Some(problem) = problem(path, &link, files, paths) {
                found.error(format!("{path}:{line}: link to `{link}`: {problem}"));
            }
        }
    }
}

/// What is wrong with a link of the file at `from`; `None` also for links that lead elsewhere.
fn problem(from: &str, link: &str, files: &Files, paths: &[String]) -> Option<&'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = link
        .split_once('#')
        .map_or((link, None), |(f, h)| (f, Some(h)));
    let target = if file.is_empty() {
        from.to_owned()
    } else {
        match resolve(from, file) {
            Some(target) => target,
            None => return Some("leads out of the repository"),
        }
    };
    let inside = format!("{target}/");
    let is_dir = target.is_empty() || paths.iter().any(|path| path.starts_with(&inside));
    if !is_dir && paths.binary_search(&target).is_err() {
        return Some("no such file");
    }
    let heading = heading.filter(|_| target.ends_with(".md"))?;
    let headings = headings(files.get(&target)?);
    (!headings.contains(heading)).then_some("no such heading")
}

/// The path from the root of the repository, or `None` for one outside of it.
fn resolve(from: &str, link: &str) -> Option<String> {
    let (dir, link) = match link.strip_prefix('/') {
        Some(link) => ("", link),
        None => (from.rsplit_once('/').map_or("", |(dir, _)| dir), link),
    };
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The lines outside of fenced code, with their numbers, and with inline code blanked.
fn prose(markdown: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        let text = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| text.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => lines.push((index + 1, line.to_owned())),
            _ => {}
        }
    }
    lines
}

/// Inline code can hold brackets that are no link.
fn without_code(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 0 {
            text.push_str(part);
        } else {
            // A link's own text may be code; what matters is that something stands there.
            text.push('_');
        }
    }
    text
}

/// Every `[text](link)`, `![text](link)` and `[name]: link`, with its line.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(markdown) {
        let line = without_code(&line);
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let end = closing(after);
            links.extend(target(&after[..end]).map(|link| (number, link)));
            rest = &after[end..];
        }
        if let Some((name, after)) = line.trim_start().split_once("]: ")
            && name.starts_with('[')
            && !name.starts_with("[^")
        {
            links.extend(target(after).map(|link| (number, link)));
        }
    }
    links
}

/// Where the parenthesis ends that was opened just before `text`.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// `path "title"` and `<path>` → `path`.
fn target(text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?;
    Some(
        word.trim_start_matches('<')
            .trim_end_matches('>')
            .to_owned(),
    )
}

/// The headings as links name them: lower case, spaces to hyphens, punctuation dropped, and a
/// number on those that come again.
fn headings(markdown: &str) -> BTreeSet<String> {
    let mut slugs = BTreeSet::new();
    for (_, line) in prose(markdown) {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if level == 0 || level > 6 || !text.starts_with(' ') {
            continue;
        }
        let slug: String = text
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let repeated = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone())
            .chain(repeated)
            .find(|s| !slugs.contains(s));
        slugs.extend(free);
    }
    slugs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(markdown: &str) -> Vec<String> {
        let files = Files::from([
            ("docs/a.md".to_owned(), markdown.to_owned()),
            (
                "README.md".to_owned(),
                "# The `head`: two words\n## x\n## x\n".to_owned(),
            ),
            ("docs/b.rs".to_owned(), String::new()),
        ]);
        let mut found = Findings::default();
        let paths: Vec<_> = files.keys().cloned().collect();
        check(&files, &paths, &mut found);
        found.errors
    }

    #[test]
    fn good_links_pass() {
        let text = "# Here\n[a](b.rs) [b](../README.md#the-head-two-words) ![c](./b.rs \"title\")\n\
                    [d](https://example.com/x(y)) [e](#here) [f](..) [g](/docs/b.rs)\n\
                    [h](../README.md#x-1) [`i`](<b.rs>)\n[ref]: b.rs\n";
        assert_eq!(errors(text), Vec::<String>::new());
    }

    #[test]
    fn bad_links_are_named() {
        for link in [
            "c.rs",
            "../docs",
            "../../etc/passwd",
            "../README.md#y",
            "#there",
            "b",
        ] {
            let expected = usize::from(link != "../docs");
            assert_eq!(errors(&format!("[x]({link})")).len(), expected, "{link}");
        }
        assert_eq!(
            errors("[ref]: c.rs"),
            ["docs/a.md:1: link to `c.rs`: no such file"]
        );
        assert_eq!(errors("ok\n[a](b.rs) and [b](no.md)").len(), 1);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(
            errors("```\n[x](no)\n```\n`a[i](j)`\n~~~md\n[y](no)\n~~~\n").len(),
            0
        );
        assert_eq!(errors("```\n```\n[x](no)").len(), 1);
    }
}
