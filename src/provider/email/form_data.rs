//! Splits a body of `multipart/form-data` into its fields, byte by byte: they are in many charsets.

use super::header::{Headers, end_of_line};
use super::parameters::Parameters;

/// Many more fields than any provider sends.
const MAX_FIELDS: usize = 2_000;

/// A field of a form.
#[derive(Debug)]
pub struct Field<'a> {
    /// What it is called.
    pub name: String,
    /// The name of the file that it is.
    pub file_name: Option<String>,
    /// What it says it is.
    pub content_type: String,
    /// Its bytes.
    pub content: &'a [u8],
}

/// Splits a body by the boundary that its content type names.
///
/// # Errors
/// The content type names no boundary, or the body has too many fields, or none.
pub fn fields<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Field<'a>>, String> {
    let boundary = Parameters::of(content_type)
        .get("boundary")
        .unwrap_or_default();
    if boundary.is_empty() {
        return Err("the content type has no boundary".to_owned());
    }
    let mut fields = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        let end = end_of_line(rest);
        let line = rest.get(..end).unwrap_or_default();
        let Some(is_last) = boundary_of(line, boundary.as_bytes()) else {
            at += end;
            continue;
        };
        if let Some(start) = start {
            add(&mut fields, body.get(start..at).unwrap_or_default())?;
        }
        at += end;
        start = (!is_last).then_some(at);
        if is_last {
            break;
        }
    }
    if let Some(start) = start {
        add(&mut fields, body.get(start..).unwrap_or_default())?;
    }
    if fields.is_empty() {
        return Err("the form has no fields".to_owned());
    }
    Ok(fields)
}

/// Whether a line is a boundary, and then whether it is the last.
fn boundary_of(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    match rest.trim_ascii() {
        b"" => Some(false),
        b"--" => Some(true),
        _ => None,
    }
}

/// Adds what is between two boundaries.
fn add<'a>(fields: &mut Vec<Field<'a>>, piece: &'a [u8]) -> Result<(), String> {
    if fields.len() == MAX_FIELDS {
        return Err(format!("the form has more than {MAX_FIELDS} fields"));
    }
    let head = super::header::head(piece);
    let rest = piece.get(head.len()..).unwrap_or_default();
    let content = rest.get(end_of_line(rest)..).unwrap_or_default();
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    let headers = Headers::of(head);
    let disposition = Parameters::of(headers.get("content-disposition").unwrap_or_default());
    let Some(name) = disposition.get("name") else {
        return Ok(());
    };
    fields.push(Field {
        name,
        file_name: disposition.get("filename"),
        content_type: headers.get("content-type").unwrap_or_default().to_owned(),
        content,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_every_byte() {
        let body = b"preamble\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\0\r\n--bb\r\n--b\r\nContent-Disposition: form-data; name=f; filename=\"\xc3\xa9\"\r\nContent-Type: x/y\r\n\r\n\r\n--b--\r\nrest";
        let fields = fields("multipart/form-data; boundary=b", body).unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0].content, b"\xff\0\r\n--bb");
        assert_eq!(fields[1].file_name.as_deref(), Some("é"));
        assert_eq!(fields[1].content, b"");
    }

    #[test]
    fn a_form_without_fields_is_none() {
        assert!(fields("multipart/form-data", b"x").is_err());
        assert!(fields("multipart/form-data; boundary=b", b"x").is_err());
        let many = "--b\nContent-Disposition: x; name=a\n\n\n".repeat(MAX_FIELDS + 1);
        assert!(fields("x; boundary=b", many.as_bytes()).is_err());
    }
}
