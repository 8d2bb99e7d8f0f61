//! Splits a mail into its parts, in one pass over its lines.

use super::header::{Headers, end_of_line};
use super::parameters::Parameters;

/// The most parts of a mail.
pub const MAX_PARTS: usize = 500;
/// How deep parts may be nested.
pub const MAX_DEPTH: usize = 50;
/// The largest mail, in bytes.
pub const MAX_BYTES: usize = 40 * 1024 * 1024;

/// A part of a mail, which may have parts itself.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its header.
    pub headers: Headers,
    /// What it is.
    pub content_type: Parameters,
    /// Where its parts are, in their order; only of those that are split.
    pub children: Vec<usize>,
    /// What follows its header.
    pub body: &'a [u8],
}

/// Where the splitting is.
enum At {
    /// Before a header.
    Header,
    /// In the content of a part without parts.
    Leaf { node: usize, start: usize },
    /// Before the first or after the last part of another.
    Between,
}

/// A part that is being split.
struct Open {
    node: usize,
    boundary: Vec<u8>,
    start: usize,
}

/// Splits a mail; the first part is the whole.
///
/// # Errors
/// The mail is beyond a limit, or has no header.
pub fn split(raw: &[u8]) -> Result<Vec<Node<'_>>, String> {
    if raw.len() > MAX_BYTES {
        return Err(format!("the mail has more than {MAX_BYTES} bytes"));
    }
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut state = At::Header;
    let mut at = 0;
    loop {
        if matches!(state, At::Header) {
            let header = header_length(raw.get(at..).unwrap_or_default(), &open);
            let block = raw.get(at..at + header).unwrap_or_default();
            at += header;
            let node = nodes.len();
            if node == MAX_PARTS {
                return Err(format!("the mail has more than {MAX_PARTS} parts"));
            }
            let headers = Headers::of(block);
            if node == 0 && headers.is_empty() {
                return Err("the mail has no header".to_owned());
            }
            if let Some(parent) = open.last().and_then(|open| nodes.get_mut(open.node)) {
                parent.children.push(node);
            }
            let content_type = Parameters::of(headers.get("content-type").unwrap_or_default());
            let boundary = content_type
                .get("boundary")
                .filter(|boundary| !boundary.trim().is_empty());
            let boundary = boundary.filter(|_| content_type.value.starts_with("multipart/"));
            nodes.push(Node {
                headers,
                content_type,
                children: Vec::new(),
                body: raw.get(at..).unwrap_or_default(),
            });
            state = match boundary {
                Some(boundary) => {
                    if open.len() == MAX_DEPTH {
                        return Err(format!("the mail has parts nested deeper than {MAX_DEPTH}"));
                    }
                    let boundary = boundary.trim_end().as_bytes().to_vec();
                    open.push(Open {
                        node,
                        boundary,
                        start: at,
                    });
                    At::Between
                }
                None => At::Leaf { node, start: at },
            };
        }
        let rest = raw.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let end = end_of_line(rest);
        let line = rest.get(..end).unwrap_or_default();
        if let Some((depth, is_last)) = boundary_of(line, &open) {
            close_leaf(&state, &mut nodes, at, true);
            let keep = if is_last { depth } else { depth + 1 };
            while open.len() > keep {
                if let Some(open) = open.pop() {
                    close(&mut nodes, open.node, at.saturating_sub(open.start), true);
                }
            }
            state = if is_last { At::Between } else { At::Header };
        }
        at += end;
    }
    close_leaf(&state, &mut nodes, raw.len(), false);
    Ok(nodes)
}

/// How long a header is, with the empty line after it. A boundary ends it too.
fn header_length(bytes: &[u8], open: &[Open]) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let end = end_of_line(rest);
        let line = rest.get(..end).unwrap_or_default();
        if boundary_of(line, open).is_some() {
            return at;
        }
        at += end;
        if matches!(line, b"\n" | b"\r\n") {
            return at;
        }
    }
    at
}

/// Which of the parts being split a line is a boundary of, and whether it is the last.
fn boundary_of(line: &[u8], open: &[Open]) -> Option<(usize, bool)> {
    let rest = line.strip_prefix(b"--")?.trim_ascii_end();
    open.iter().enumerate().rev().find_map(|(depth, open)| {
        match rest.strip_prefix(open.boundary.as_slice())? {
            b"" => Some((depth, false)),
            b"--" => Some((depth, true)),
            _ => None,
        }
    })
}

/// Ends a part without parts, if in one.
fn close_leaf(state: &At, nodes: &mut [Node<'_>], end: usize, is_boundary: bool) {
    if let At::Leaf { node, start } = state {
        close(nodes, *node, end.saturating_sub(*start), is_boundary);
    }
}

/// Sets where the content of a part ends. The line break before a boundary belongs to that.
fn close(nodes: &mut [Node<'_>], node: usize, length: usize, is_boundary: bool) {
    let Some(node) = nodes.get_mut(node) else {
        return;
    };
    let mut content = node.body.get(..length).unwrap_or(node.body);
    if is_boundary {
        content = content.strip_suffix(b"\n").unwrap_or(content);
        content = content.strip_suffix(b"\r").unwrap_or(content);
    }
    node.body = content;
}
