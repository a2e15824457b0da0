//! The headers for C and for CUDA.

use std::fmt::{self, Write};

use vyre_ioq::abi::{self, Table};

use crate::workspace::Result;

/// Tables whose numbers have names at run time: the prefix, and what the argument of the function is.
const NAMED: &[(&str, &str)] = &[
    ("OP_", "an operation"),
    ("STATUS_", "a status word"),
    ("STATE_", "a host's state"),
    ("ERRNO_", "an errno that the host itself stores"),
];

/// The text of a header that does not depend on the numbers: what stands between them.
fn pieces<const N: usize>(template: &str) -> Result<[&str; N]> {
    let pieces: Vec<&str> = template.split("%%\n").collect();
    pieces.try_into().map_err(|_| format!("a template has not {N} pieces").into())
}

pub(super) fn c() -> Result<String> {
    let [head, word, assertions, tail] = pieces(include_str!("c.in"))?;
    let mut out = head.to_owned();
    version(&mut out)?;
    for table in abi::TABLES {
        writeln!(out, "\n/* {} */", table.about.trim())?;
        for row in table.rows {
            comment(&mut out, "", row.meaning);
            let (prefix, name, literal) = (table.prefix, row.name, row.literal);
            writeln!(out, "#define VYRE_IOQ_{prefix}{name} {literal}u")?;
        }
    }
    writeln!(out, "\n/* The magic, as two words. */")?;
    for (word, value) in abi::MAGIC.iter().enumerate() {
        writeln!(out, "#define VYRE_IOQ_MAGIC_{word} {value:#x}u")?;
    }
    out.push_str(word);
    structs(&mut out, declare)?;
    out.push_str("\n/** Reasons why memory is not a queue: one for each rule of ABI.md, section 3. */\n");
    out.push_str("enum vyre_ioq_attach_error {\n    /** There is a queue. */\n");
    out.push_str("    VYRE_IOQ_ATTACH_OK = 0");
    for (name, rule) in attach_errors() {
        out.push_str(",\n");
        comment(&mut out, "    ", rule);
        write!(out, "    VYRE_IOQ_ATTACH_{name}")?;
    }
    out.push_str("\n};\n");
    out.push_str(assertions);
    structs(&mut out, assert)?;
    for (table, what) in named() {
        let function = format!("vyre_ioq_{}name", table.prefix.to_lowercase());
        comment(&mut out, "\n", &about(what));
        writeln!(out, "static inline const char *{function}(vyre_ioq_word value)\n{{")?;
        let names = table.rows.iter().map(|row| row.name.to_owned());
        cases(&mut out, &format!("VYRE_IOQ_{}", table.prefix), names)?;
    }
    comment(&mut out, "\n", ABOUT_ATTACH_ERROR);
    out.push_str("static inline const char *vyre_ioq_attach_error_name(");
    out.push_str("enum vyre_ioq_attach_error value)\n{\n");
    let names = attach_errors().map(|(name, _)| name);
    let names = ["OK".to_owned()].into_iter().chain(names);
    cases(&mut out, "VYRE_IOQ_ATTACH_", names)?;
    out.push_str(tail);
    Ok(out)
}

pub(super) fn cuda() -> Result<String> {
    let [head, types, tail] = pieces(include_str!("cuda.in"))?;
    let mut out = head.to_owned();
    version(&mut out)?;
    out.push_str(types);
    for table in abi::TABLES {
        writeln!(out, "    /* {} */", table.about.trim())?;
        for row in table.rows {
            comment(&mut out, "    ", row.meaning);
            let (prefix, name, literal) = (table.prefix, row.name, row.literal);
            writeln!(out, "    {prefix}{name} = {literal}u,")?;
        }
        out.push('\n');
    }
    writeln!(out, "    /* The magic, as two words. */")?;
    for (word, value) in abi::MAGIC.iter().enumerate() {
        writeln!(out, "    MAGIC_{word} = {value:#x}u,")?;
    }
    out.push_str("};\n\n/** Reasons why memory is not a queue: one for each rule of ABI.md, section 3. */\n");
    out.push_str("enum class AttachError : u32 {\n    /** There is a queue. */\n    NONE,\n");
    for (name, rule) in attach_errors() {
        comment(&mut out, "    ", rule);
        writeln!(out, "    {name},")?;
    }
    out.push_str("};\n");
    let function = "VYRE_IOQ_HOST_DEVICE inline const char *";
    for (table, what) in named() {
        comment(&mut out, "\n", &about(what));
        let name = format!("{}name", table.prefix.to_lowercase());
        writeln!(out, "{function}{name}(u32 value) {{")?;
        let names = table.rows.iter().map(|row| row.name.to_owned());
        cases(&mut out, table.prefix, names)?;
    }
    comment(&mut out, "\n", ABOUT_ATTACH_ERROR);
    writeln!(out, "{function}name(AttachError value) {{")?;
    let names = attach_errors().map(|(name, _)| name);
    let names = ["NONE".to_owned()].into_iter().chain(names);
    cases(&mut out, "AttachError::", names)?;
    out.push_str(tail);
    Ok(out)
}

const ABOUT_ATTACH_ERROR: &str = "Returns the name of an attach error, such as \"BAD_MAGIC\".";

fn about(what: &str) -> String {
    format!("Returns the name of {what}; \"unknown\" for any other number.")
}

/// The version of the headers, which is that of the crate.
fn version(out: &mut String) -> Result<()> {
    let version = vyre_ioq::headers::VERSION;
    let parts = version.split(['.', '-']).take(3).map(str::parse);
    let parts: Vec<u32> = parts.collect::<std::result::Result<_, _>>()?;
    let [major, minor, patch] = parts[..] else {
        return Err(format!("{version} is no version").into());
    };
    let number = major * 10000 + minor * 100 + patch;
    writeln!(out, "\n/* The version of the headers, which is that of the crate vyre-ioq. */")?;
    for (name, number) in [("_MAJOR", major), ("_MINOR", minor), ("_PATCH", patch), ("", number)] {
        writeln!(out, "#define VYRE_IOQ_VERSION{name} {number}")?;
    }
    Ok(())
}

/// The tables whose numbers have names, and what a number is.
fn named() -> impl Iterator<Item = (&'static Table, &'static str)> {
    abi::TABLES.iter().filter_map(|table| {
        let named = NAMED.iter().find(|(prefix, _)| *prefix == table.prefix);
        named.map(|(_, what)| (table, *what))
    })
}

/// Names and rules of the attach errors of the headers: `TOO_SHORT` for `TooShort`.
fn attach_errors() -> impl Iterator<Item = (String, &'static str)> {
    let rules = abi::ATTACH_RULES.iter();
    rules.filter(|[_, layout, _]| *layout != "neither").map(|[name, _, rule]| {
        let mut capitals = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !capitals.is_empty() {
                capitals.push('_');
            }
            capitals.push(letter.to_ascii_uppercase());
        }
        (capitals, *rule)
    })
}

/// Writes a comment in lines of at most 100 columns, each after the indent.
pub(super) fn comment(out: &mut String, indent: &str, text: &str) {
    let (blank, indent) = match indent.strip_prefix('\n') {
        Some(rest) => ("\n", rest),
        None => ("", indent),
    };
    let width = 100 - indent.len() - "/** */".len();
    let mut line = String::new();
    let mut lines = Vec::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    let text = lines.join(&format!("\n{indent}    "));
    out.push_str(&format!("{blank}{indent}/** {text} */\n"));
}

/// Writes the rest of a function that returns the name of `value`.
fn cases(out: &mut String, prefix: &str, names: impl Iterator<Item = String>) -> Result<()> {
    out.push_str("    switch (value) {\n");
    for name in names {
        writeln!(out, "    case {prefix}{name}:\n        return \"{name}\";")?;
    }
    out.push_str("    default:\n        return \"unknown\";\n    }\n}\n");
    Ok(())
}

/// A field of a struct: the name, the index of its first word, and how many it has.
type Field = (String, u32, u32);

/// Writes something about the structs of a slot and of line 0 of the header, both of 16 words.
fn structs(out: &mut String, write: fn(&mut String, &str, &[Field]) -> fmt::Result) -> fmt::Result {
    for (name, prefix) in [("slot", "WORD_"), ("header", "HEADER_WORD_")] {
        let tables = abi::TABLES.iter().filter(|table| table.prefix == prefix);
        let rows = tables.flat_map(|table| table.rows).filter(|row| row.value < 16);
        let mut fields: Vec<Field> = rows
            .map(|row| {
                let last = row.last.unwrap_or(row.value);
                (row.name.to_lowercase(), row.value, last - row.value + 1)
            })
            .collect();
        let end = fields.last().map_or(0, |(_, first, words)| first + words);
        if end < 16 {
            fields.push(("reserved".to_owned(), end, 16 - end));
        }
        write(out, name, &fields)?;
    }
    Ok(())
}

fn declare(out: &mut String, name: &str, fields: &[Field]) -> fmt::Result {
    let about = match name {
        "slot" => "The words of a slot. In the bare layout it ends after `tag`.",
        _ => "Line 0 of the header: the words that never change.",
    };
    comment(out, "\n", about);
    writeln!(out, "struct vyre_ioq_{name} {{")?;
    for (field, _, words) in fields {
        match words {
            1 => writeln!(out, "    vyre_ioq_word {field};")?,
            words => writeln!(out, "    vyre_ioq_word {field}[{words}];")?,
        }
    }
    out.push_str("};\n");
    Ok(())
}

fn assert(out: &mut String, name: &str, fields: &[Field]) -> fmt::Result {
    let name = format!("vyre_ioq_{name}");
    let mut claim = |what: &str, value: u32| writeln!(out, "VYRE_IOQ_ASSERT_({what} == {value}, \"{name}: ABI.md\");");
    claim(&format!("sizeof(struct {name})"), 64)?;
    claim(&format!("VYRE_IOQ_ALIGNOF_(struct {name})"), 4)?;
    for (field, first, _) in fields {
        claim(&format!("offsetof(struct {name}, {field})"), first * 4)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_wrapped() {
        let mut out = String::new();
        comment(&mut out, "    ", " short ");
        assert_eq!(out, "    /** short */\n");
        out.clear();
        comment(&mut out, "", &"word ".repeat(30));
        assert!(out.lines().all(|line| line.len() <= 100), "{out}");
        assert_eq!(out.matches("word").count(), 30);
    }
}
