//! `docs/handshake.md` and the C header of the messages, from `vyre_io_client::protocol::spec`.

use std::fmt::Write;

use vyre_io_client::protocol::sizes;
use vyre_io_client::protocol::spec::{BODIES, Body, TABLES};

use super::languages::comment;
use super::{markdown, with_table};
use crate::workspace::Result;

pub(super) const DOCUMENT: &str = "docs/handshake.md";
pub(super) const HEADER: &str = "crates/vyre-io-client/include/vyre_io_client_messages.h";
const GOLDEN: &str = include_str!("../../../crates/vyre-io-client/tests/golden/messages.txt");
const GOLDEN_HEADING: &str = "\n## 9. Golden bytes\n";

/// Returns the document with its tables and its golden bytes generated.
pub(super) fn document(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for table in TABLES {
        let rows: Vec<String> = table.rows.iter().map(|row| markdown(table, row)).collect();
        text = with_table(DOCUMENT, &text, table.heading, table.columns, &rows)?;
    }
    for body in BODIES.iter().filter(|body| !body.fields.is_empty()) {
        let rows: Vec<String> = rows(body).collect();
        text = with_table(DOCUMENT, &text, body.name, "offset | field | type | meaning", &rows)?;
    }
    let missing = || format!("{DOCUMENT} has no section of golden bytes");
    let start = text.find(GOLDEN_HEADING).ok_or_else(missing)? + GOLDEN_HEADING.len();
    let about = text[start..].split("\n\n").next().unwrap_or_default().trim();
    Ok(format!("{}\n{about}\n{}", &text[..start], golden()))
}

/// The first byte of the fields: behind the header, or of the entry.
fn first(body: &Body) -> usize {
    if body.name.starts_with("Entry") { 0 } else { sizes::HEADER_BYTES as usize }
}

fn rows(body: &Body) -> impl Iterator<Item = String> {
    let mut at = first(body);
    body.fields.iter().map(move |field| {
        let offset = at;
        at += field.bytes;
        let kind = match field.kind {
            "text" => format!("text of {}", field.bytes),
            number => number.to_owned(),
        };
        [&offset.to_string(), field.name, &kind, field.meaning.trim()].join(" | ")
    })
}

/// The golden bytes as blocks of text.
fn golden() -> String {
    let mut out = String::new();
    let mut blocks = GOLDEN.split("\n\n").skip(1);
    blocks
        .try_for_each(|block| {
            let (name, bytes) = block.trim().split_once('\n').unwrap_or((block, ""));
            write!(out, "\n{name}:\n\n```text\n{}\n```\n", bytes.trim())
        })
        .expect("a string takes everything");
    out
}

/// The C header: constants, structs of the bodies, and functions that write and read them.
pub(super) fn c() -> Result<String> {
    let pieces: Vec<&str> = include_str!("client.in").split("%%\n").collect();
    let [head, functions, tail] = pieces[..] else {
        return Err("the template of the client's header has not 3 pieces".into());
    };
    let mut out = head.to_owned();
    for table in TABLES {
        writeln!(out, "\n/* {} */", table.about.trim())?;
        for row in table.rows {
            comment(&mut out, "", row.meaning);
            writeln!(out, "#define VYRE_IO_MSG_{}{} {}u", table.prefix, row.name, row.literal)?;
        }
    }
    for body in BODIES.iter().filter(|body| !body.fields.is_empty()) {
        structure(&mut out, body)?;
    }
    out.push_str(functions);
    for body in BODIES.iter().filter(|body| !body.fields.is_empty()) {
        put(&mut out, body)?;
        get(&mut out, body)?;
    }
    let codes = TABLES.iter().find(|table| table.prefix == "CODE_").ok_or("no codes")?;
    comment(&mut out, "\n", "Returns the name of a code, such as \"NO_SUCH_FILE\"; \"unknown\" for any other number.");
    out.push_str("static inline const char *vyre_io_msg_code_name(uint32_t code)\n{\n    switch (code) {\n");
    for row in codes.rows {
        writeln!(out, "    case VYRE_IO_MSG_CODE_{0}:\n        return \"{0}\";", row.name)?;
    }
    out.push_str("    default:\n        return \"unknown\";\n    }\n}\n");
    comment(&mut out, "\n", "Returns 1 if the server ends the connection after a refusal with this code; else 0.");
    out.push_str("static inline int vyre_io_msg_code_cuts(uint32_t code)\n{\n    switch (code) {\n");
    for row in codes.rows.iter().filter(|row| row.cells == "yes") {
        writeln!(out, "    case VYRE_IO_MSG_CODE_{}:", row.name)?;
    }
    out.push_str("        return 1;\n    default:\n        return 0;\n    }\n}\n");
    out.push_str(tail);
    Ok(out)
}

/// The name of a body in C: `welcome`, `file_entry`.
fn name(body: &Body) -> String {
    match body.name {
        "Head of a page" => "page_head".to_owned(),
        "Entry of FILES" => "file_entry".to_owned(),
        "Entry of STATUS_IS" => "peer_status".to_owned(),
        name => name.to_lowercase(),
    }
}

fn structure(out: &mut String, body: &Body) -> Result<()> {
    let name = name(body);
    let upper = name.to_uppercase();
    writeln!(out, "\n/** Bytes of the fields of vyre_io_msg_{name} in a message. */")?;
    writeln!(out, "#define VYRE_IO_MSG_{upper}_BYTES {}u", body.bytes)?;
    comment(
        out,
        "",
        &format!("The fields of {}, in order.", body.name.replace("Head", "the head").replace("Entry", "an entry")),
    );
    writeln!(out, "struct vyre_io_msg_{name} {{")?;
    for field in body.fields {
        let text = field.kind == "text";
        let end = if text { " It ends with a zero byte." } else { "" };
        comment(out, "    ", &format!("{}{end}", field.meaning.trim()));
        if text {
            writeln!(out, "    char {}[{} + 1];", field.name, field.bytes)?;
        } else {
            writeln!(out, "    uint{}_t {};", field.bytes * 8, field.name)?;
        }
    }
    out.push_str("};\n");
    Ok(())
}

fn put(out: &mut String, body: &Body) -> Result<()> {
    let name = name(body);
    writeln!(out, "\n/** Writes the fields, and returns the number of bytes. */")?;
    writeln!(
        out,
        "static inline size_t vyre_io_msg_put_{name}(unsigned char *bytes, const struct vyre_io_msg_{name} *from)\n{{"
    )?;
    let mut at = 0;
    for field in body.fields {
        let width = if field.kind == "text" { "text".to_owned() } else { (field.bytes * 8).to_string() };
        let size = if field.kind == "text" { format!(", {}", field.bytes) } else { String::new() };
        writeln!(out, "    vyre_io_priv_put{width}(bytes + {at}, from->{}{size});", field.name)?;
        at += field.bytes;
    }
    writeln!(out, "    return VYRE_IO_MSG_{}_BYTES;\n}}", name.to_uppercase())?;
    Ok(())
}

fn get(out: &mut String, body: &Body) -> Result<()> {
    let name = name(body);
    writeln!(out, "\n/** Reads the fields. Returns 0 unless there are enough bytes, and texts are texts. */")?;
    writeln!(
        out,
        "static inline int vyre_io_msg_get_{name}(const unsigned char *bytes, size_t len, struct vyre_io_msg_{name} *to)\n{{"
    )?;
    writeln!(out, "    if (len < VYRE_IO_MSG_{}_BYTES) {{\n        return 0;\n    }}", name.to_uppercase())?;
    let mut at = 0;
    for field in body.fields {
        if field.kind == "text" {
            writeln!(
                out,
                "    if (!vyre_io_priv_get_text(bytes + {at}, {}, to->{})) {{\n        return 0;\n    }}",
                field.bytes, field.name
            )?;
        } else {
            writeln!(out, "    to->{} = vyre_io_priv_get{}(bytes + {at});", field.name, field.bytes * 8)?;
        }
        at += field.bytes;
    }
    out.push_str("    return 1;\n}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_as_generated_and_a_byte_that_differs_is_found() {
        let found = include_str!("../../../docs/handshake.md");
        assert_eq!(document(found).unwrap(), found, "run `cargo xtask header`");
        for (was, is) in [
            ("| 0x80ff | REFUSED |", "| 0x80fe | REFUSED |"),
            ("56 59 48 53 01", "56 59 48 53 02"),
            ("| 24 | name |", "| 25 | name |"),
        ] {
            let wrong = found.replace(was, is);
            assert_ne!(wrong, found, "{was}");
            assert_eq!(document(&wrong).unwrap(), found, "{was}");
        }
    }
}
