//! No body makes us panic or work for long.

use std::time::Duration;

use super::*;

/// Every way in.
fn try_all(body: &[u8]) {
    let _ = mime::arrival(body, Envelope::default());
    let _ = postmark::arrivals(body);
    let _ = ses::arrivals(body);
    for content_type in [MAILGUN, SENDGRID, FORM, "application/json"] {
        let _ = mailgun::arrivals(content_type, body);
        let _ = sendgrid::arrivals(content_type, body);
    }
}

#[test]
fn no_mutation_of_a_body_panics() {
    let mut bodies = Vec::new();
    for folder in ["email", "gmail"] {
        for file in std::fs::read_dir(format!("{SAMPLES}/{folder}")).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                bodies.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert!(bodies.len() > 20);
    let rounds = std::env::var("MUTATIONS").map_or(1_000, |rounds| rounds.parse().unwrap());
    let halves = bodies.split_at(bodies.len() / 2);
    std::thread::scope(|scope| {
        for half in [halves.0, halves.1] {
            scope.spawn(move || half.iter().for_each(|body| mutate(body, rounds)));
        }
    });
}

/// Tries mutations of a body.
fn mutate(body: &[u8], rounds: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below.max(1)
    };
    let bits: [&[u8]; 12] = [
        b"--",
        b"\r\n\r\n",
        b"=?utf-8?Q?=",
        b"<",
        b">",
        b"\0",
        b"\xff",
        b"\"",
        b":",
        b"On x wrote:\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n",
        b"\xe2\x80",
    ];
    for _ in 0..rounds {
        let mut mutant = body.to_vec();
        for _ in 0..=next(3) {
            let at = next(mutant.len());
            match next(5) {
                0 => mutant[at] = u8::try_from(next(256)).unwrap(),
                1 => {
                    let end = (at + next(40)).min(mutant.len());
                    mutant.drain(at..end);
                }
                2 => {
                    let bit = bits[next(bits.len())];
                    mutant.splice(at..at, bit.iter().copied());
                }
                3 => mutant.truncate(at.max(1)),
                _ => {
                    let end = (at + next(200)).min(mutant.len());
                    let piece = mutant[at..end].to_vec();
                    let to = next(mutant.len());
                    mutant.splice(to..to, piece);
                }
            }
            if mutant.is_empty() {
                mutant.push(b'x');
            }
        }
        try_all(&mutant);
    }
}

/// How long this thread has worked.
fn thread_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// How much larger than the small one the large mail of a trial is.
const LARGER: u32 = 8;

/// Reads two mails, a small one and a large one, of which the large one must not take longer than
/// its size explains: eight times as long, while work for each pair of bytes takes 64 times as long.
/// A machine that is busy elsewhere slows both.
#[track_caller]
fn is_fast(mail: impl Fn(usize) -> (String, String), size: usize) {
    let time = |size: usize, tries: u32| {
        let (header, content) = mail(size);
        let body = format!("From: a@b\n{header}\n\n{content}");
        let read = || {
            let start = thread_time();
            let _ = raw(&body);
            thread_time().saturating_sub(start)
        };
        let words: String = [header, "\n".to_owned(), content].concat();
        let words: String = words.chars().take(60).collect();
        ((0..tries).map(|_| read()).min().unwrap(), words)
    };
    let (small, _) = time(size / LARGER as usize, 2);
    // The clock of a thread may tick each 10 ms only.
    let limit = small.max(Duration::from_millis(10)) * LARGER * 3;
    let (large, words) = time(size, 1);
    if large > limit {
        // Whatever came in between does not come again each time.
        let (large, _) = time(size, 3);
        assert!(large < limit, "{words:?}: {small:?}, then {large:?}");
    }
}

/// A mail whose content is the same again and again.
fn content(header: &str, piece: &str) -> impl Fn(usize) -> (String, String) {
    move |size| (header.to_owned(), piece.repeat(size / piece.len()))
}

/// A mail with a field that is the same again and again.
fn field(field: &str, piece: &str) -> impl Fn(usize) -> (String, String) {
    move |size| {
        let value = piece.repeat(size / piece.len());
        (format!("{field}{value}"), "x".to_owned())
    }
}

const MEGA: usize = 1024 * 1024;

#[test]
fn no_text_takes_long() {
    for piece in [
        "On \n",
        "On a wrote:\n",
        "On ",
        "On a\nwrote:\n\n",
        ">\n",
        "-- \n",
        "From: a\nTo: b\n",
        "____________\n",
        "\n",
        "> a\nOn b wrote:\n",
        "Sent from my x\n",
        "-----Original Message-----\n>\n",
    ] {
        is_fast(content("X: y", piece), MEGA);
    }
    is_fast(
        content("Content-Transfer-Encoding: quoted-printable", "= "),
        MEGA,
    );
    is_fast(
        content("Content-Type: text/plain; charset=utf-7", "+AOk-"),
        MEGA,
    );
}

#[test]
fn no_html_takes_long() {
    let html = "Content-Type: text/html";
    is_fast(content(html, "<div>"), 250_000);
    for piece in [
        "<div>",
        "<p>",
        "<b>",
        "<a href=x>",
        "<li>",
        "<table>",
        "<table>x<br>",
        "<td>",
        "<tr>",
        "<blockquote>",
        "<",
        "</",
        "<!--",
        "<!",
        "<a b=\"",
        "<a b='",
        "&",
        "&amp",
        "\u{a0}",
        "&nbsp;",
        "&xyz;",
        "&#1;",
        "&amp;",
        "</p>",
        "</div>",
        "<script>",
        "<style></",
        "<div><b id=1></div>",
        "<div><i><b><u></div>",
        "<font><p>",
        "<p><font>",
        "a<br>",
        "<svg>",
        "<math>",
        "<select>",
        "<template>",
        "<form>",
        "<ul><li>",
        "<dl><dd>",
        "<h1>",
        "<button>",
        "<nobr>",
        "<pre>\n",
        "<img src=cid:x>",
        "<div class=gmail_quote>",
        "<table><tr><td>",
        "<table><td><table>",
        "</table>",
        "<p>x</div>",
        "<frameset>",
        "<plaintext>",
        "x<td>y<tr>z",
        "<br>",
        "<blockquote><br>",
    ] {
        is_fast(content(html, piece), 64 * 1024);
    }
    let numbered = |write: fn(usize) -> String| {
        move |count: usize| (html.to_owned(), (0..count).map(write).collect())
    };
    is_fast(
        |size| (html.to_owned(), format!("<a {}>", "b=c ".repeat(size / 4))),
        MEGA,
    );
    let names = numbered(|number| format!("n{number} "));
    is_fast(
        |count| (html.to_owned(), format!("<a {}>", names(count).1)),
        50_000,
    );
    let formatting = numbered(|number| format!("<b id={number}><div>"));
    is_fast(formatting, 20_000);
}

#[test]
fn no_structure_takes_long() {
    let part = "--b\nContent-Type: multipart/mixed; boundary=b\n\n";
    let header = "Content-Type: multipart/mixed; boundary=b";
    is_fast(content(header, part), MEGA);
    let unclosed = |count: usize| {
        let parts = (0..count).map(|number| {
            let dashes = "--\n".repeat(700);
            format!("--b\nContent-Type: multipart/mixed; boundary=c{number}\n\n{dashes}")
        });
        (header.to_owned(), parts.collect())
    };
    is_fast(unclosed, 490);
    let message = "Content-Type: message/rfc822";
    is_fast(content(message, "Content-Type: message/rfc822\n\n"), MEGA);
    is_fast(
        content("Content-Type: multipart/mixed; boundary=-", "-"),
        MEGA,
    );
    for piece in [
        "=?",
        "=?a?q?",
        "=?utf-8?q?a?= ",
        "<",
        "(",
        "\"",
        "a,",
        "@",
        "a@b,",
        "a:",
        ";",
        "x*0*=''%;",
        "\n ",
        "a:\n",
        "=?a?q?b?",
    ] {
        for name in [
            "Subject",
            "To",
            "References",
            "Content-Type",
            "Date",
            "Content-Disposition",
        ] {
            is_fast(field(&format!("{name}: "), piece), MEGA);
        }
    }
    is_fast(field("", "To: a,a,a,a,a,a\n"), MEGA);
}
