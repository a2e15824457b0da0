//! The symbols of libvyre_io, the numbers of its header and the layouts of its structs, as a text that is committed: what
//! programs that are compiled rely on.

use std::fmt::Write as _;

use super::HEADER;
use crate::workspace::{Result, Workspace, cmd};

pub(super) fn text(ws: &Workspace) -> Result<String> {
    cmd!(ws, "cargo build --quiet --package vyre-io-capi").quiet().run()?;
    let library = ws.target.join("debug/libvyre_io.so");
    let symbols = cmd!(ws, "nm --dynamic --defined-only {library}").quiet().read()?;
    let mut symbols: Vec<_> = symbols.lines().filter_map(|line| line.split(' ').next_back()).collect();
    symbols.sort_unstable();
    let header = std::fs::read_to_string(ws.root.join(HEADER))?;
    let missing = |symbol: &&&str| !header.contains(&format!("{symbol}("));
    if let Some(symbol) = symbols.iter().find(missing) {
        return Err(format!("{symbol} is exported, and not in the header").into());
    }
    let numbers = numbers(ws, &header)?;
    let text = "What compiled programs rely on. `cargo xtask header` writes it anew; lines may be added, and never change \
                while the name of the library stays the same.\n";
    Ok(format!("{text}\nSymbols\n{}\n\nNumbers, and sizes and offsets in bytes\n{numbers}\n", symbols.join("\n")))
}

/// Has a compiler say the numbers and layouts of the header.
fn numbers(ws: &Workspace, header: &str) -> Result<String> {
    let folder = super::folder(ws);
    ws.sh.create_dir(&folder)?;
    let (source, program) = (folder.join("layouts.c"), folder.join("layouts"));
    ws.sh.write_file(&source, program_of(header)?)?;
    let include = ws.root.join(super::CRATE).join("include");
    cmd!(ws, "cc -std=c11 -Wall -Wextra -Werror -I {include} {source} -o {program}").quiet().run()?;
    Ok(cmd!(ws, "{program}").quiet().read()?)
}

/// Returns a program that prints the constants, and the structs with their fields.
fn program_of(header: &str) -> Result<String> {
    let mut text = "#include <stdio.h>\n#include \"vyre_io.h\"\nint main(void)\n{\n".to_owned();
    let mut within = None;
    let (mut structs, mut constants) = (0, 0);
    for line in header.lines() {
        if let Some(name) = line.strip_prefix("struct ").and_then(|line| line.strip_suffix(" {")) {
            writeln!(text, "    printf(\"struct {name} %zu\\n\", sizeof(struct {name}));")?;
            within = Some(name);
            structs += 1;
        } else if line == "};" {
            within = None;
        } else if let (Some(name), Some(field)) = (within, field(line)) {
            writeln!(
                text,
                "    printf(\"    {field} %zu %zu\\n\", offsetof(struct {name}, {field}), \
                 sizeof(((struct {name} *)0)->{field}));"
            )?;
        } else if let Some(name) = constant(line) {
            writeln!(text, "    printf(\"{name} %llu\\n\", (unsigned long long){name});")?;
            constants += 1;
        }
    }
    if structs == 0 || constants == 0 {
        return Err(format!("{HEADER} has {structs} structs and {constants} constants").into());
    }
    text.push_str("    return 0;\n}\n");
    Ok(text)
}

/// Returns the name of a field, as in `    char message[500];`.
fn field(line: &str) -> Option<&str> {
    let declaration = line.strip_prefix("    ")?.strip_suffix(';')?;
    let name = declaration.split(' ').next_back()?.trim_start_matches('*');
    Some(name.split('[').next().unwrap_or(name))
}

/// Returns the name of a constant: of an enum, or of a macro that is a number.
fn constant(line: &str) -> Option<&str> {
    if let Some(defined) = line.strip_prefix("#define ") {
        let (name, value) = defined.split_once(' ')?;
        let number = value.starts_with(|first: char| first.is_ascii_digit()) || value.starts_with("UINT");
        return (number && name.starts_with("VYRE_IO_")).then_some(name);
    }
    let (name, value) = line.trim_start().split_once(" = ")?;
    (name.starts_with("VYRE_IO_") && value.ends_with(',')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read() {
        assert_eq!(field("    enum vyre_io_result code;"), Some("code"));
        assert_eq!(field("    char message[500];"), Some("message"));
        assert_eq!(field("     * A comment."), None);
        assert_eq!(constant("#define VYRE_IO_RIGHT_READ 1"), Some("VYRE_IO_RIGHT_READ"));
        assert_eq!(constant("#define VYRE_IO_TO_THE_END UINT64_MAX"), Some("VYRE_IO_TO_THE_END"));
        assert_eq!(constant("#define VYRE_IO_VERSION \"0.1.0\""), None);
        assert_eq!(constant("#define VYRE_IO_H"), None);
        assert_eq!(constant("    VYRE_IO_RESULT_OK = 0,"), Some("VYRE_IO_RESULT_OK"));
        let program = program_of("struct a {\n    int b;\n};\n#define VYRE_IO_C 3\n").unwrap();
        for part in ["sizeof(struct a)", "offsetof(struct a, b)", "(unsigned long long)VYRE_IO_C"] {
            assert!(program.contains(part), "{program}");
        }
        assert!(program_of("").is_err());
    }
}
