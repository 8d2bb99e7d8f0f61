//! Makes the HTML of mail safe, and reads its words.

use super::quote::MARK;
use super::{plain, tidy};

/// The HTML of a mail, read.
pub struct Html {
    /// Safe to show. Images that the mail does not bring along are not loaded.
    pub safe: String,
    /// Its words, with `>` before those that are quoted and a mark where a quote begins.
    pub text: String,
}

/// Reads the HTML of a mail.
pub fn read(html: &str) -> Html {
    let html = html.replace([MARK, '\0'], "\u{fffd}");
    let marked = sanitizer().clean(&tidy::ordered(&html)).to_string();
    Html {
        text: plain::text(&marked),
        safe: marked.replace(MARK, ""),
    }
}

/// Writes text as HTML that shows it.
pub fn of_text(text: &str) -> String {
    format!("<pre>{}</pre>", escaped(text))
}

/// The rules of what is safe.
fn sanitizer() -> ammonia::Builder<'static> {
    let mut rules = ammonia::Builder::default();
    rules
        .add_url_schemes(["cid"])
        .url_relative(ammonia::UrlRelative::Deny)
        .attribute_filter(|element, attribute, value| {
            let is_remote = (element, attribute) == ("img", "src")
                && !value
                    .get(..4)
                    .is_some_and(|scheme| scheme.eq_ignore_ascii_case("cid:"));
            (!is_remote).then(|| value.into())
        });
    rules
}

/// Writes text so that none of it is a tag.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_brought_into_order() {
        assert_eq!(
            tidy::ordered("<div><b>x</div>y</b>"),
            "<div><b>x</b></div>y"
        );
        assert_eq!(
            tidy::ordered("<p>a<p>b<div>c"),
            "<p>a</p><p>b</p><div>c</div>"
        );
        assert_eq!(
            tidy::ordered("<table>x<tr><td>a<td>b<tr><td>c</table>"),
            "<table><tr><td>x</td></tr><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>"
        );
        assert_eq!(
            tidy::ordered("<ul><li>a<li>b</ul>"),
            "<ul><li>a</li><li>b</li></ul>"
        );
        assert_eq!(
            tidy::ordered("a < b <!-- x > y --> <![endif]> c <br/>"),
            "a &lt; b   c <br>"
        );
        assert_eq!(tidy::ordered("<script>a</scripty></SCRIPT >b<style>c"), "b");
        assert_eq!(
            tidy::ordered("<a href='x\"y' onclick=z>l"),
            "<a href=\"x&quot;y\">l</a>"
        );
        assert_eq!(tidy::ordered("<p <"), "");
    }

    #[test]
    fn html_is_safe_and_loads_nothing() {
        let safe = |html: &str| read(html).safe;
        assert_eq!(
            safe("<p onclick=x>a<img src=\"cid:a@b\"><img src=http://t/x><script>b</script>"),
            "<p>a<img src=\"cid:a@b\"><img></p>"
        );
        assert_eq!(
            safe("<a href=javascript:x>a</a>"),
            "<a rel=\"noopener noreferrer\">a</a>"
        );
        assert_eq!(safe("<svg><p>x</svg><iframe src=x>y</iframe>z"), "z");
    }

    #[test]
    fn words_have_the_lines_that_a_reader_sees() {
        let text = |html: &str| read(html).text;
        assert_eq!(
            text(
                "<p>a\n b &amp;&lt;</p><div>c<br>d</div><blockquote>e<blockquote>f</blockquote></blockquote>"
            ),
            "a b &<\n\nc\nd\n> e\n>> f\n"
        );
        assert_eq!(text("<ul><li>a<li>b</ul>c"), "* a\n* b\n\nc\n");
        assert_eq!(text("<table><tr><td>a<td>b<tr><td>c"), "a b\nc\n");
        assert_eq!(text("<pre>a\n  b</pre>&eacute;&#33;"), "a\n  b\n\né!\n");
        assert_eq!(text("a<img alt='b c'>"), "ab c\n");
    }
}
