//! Access lines in nginx's combined format, with the request's time and id behind.

use std::io::Write;

use super::Now;
use crate::random::Random;

/// `#` stands for a number of a version: real agents differ in hundreds of builds.
const AGENTS: [&str; 14] = [
    "curl/8.#.#",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/#.0.#.# Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/#.# Safari/605.1.15",
    "python-requests/2.#.#",
    "Mozilla/5.0 (X11; Linux x86_64; rv:#.0) Gecko/20100101 Firefox/#.0",
    "Mozilla/5.0 (Linux; Android #; SM-#) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/#.0.#.# Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Go-http-client/1.1",
    "okhttp/4.#.#",
    "kube-probe/1.#",
    "Prometheus/3.#.#",
    "Mozilla/5.0 (iPhone; CPU iPhone OS #_# like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "shop-app/#.#.# (build #; ios)",
    "ELB-HealthChecker/2.0",
];
const SECTIONS: [&str; 12] = [
    "products",
    "orders",
    "users",
    "search",
    "assets/js",
    "assets/css",
    "images",
    "cart",
    "checkout",
    "account",
    "blog",
    "docs",
];
const WORDS: [&str; 16] = [
    "summer", "garden", "lamp", "wood", "blue", "classic", "kitchen", "outdoor", "mini", "set", "steel",
    "oak", "vintage", "kids", "travel", "light",
];
const REFERERS: [&str; 6] = [
    "-",
    "-",
    "https://www.google.com/",
    "https://shop.example.com/",
    "https://shop.example.com/search?q=",
    "https://news.example.org/item/",
];

pub(super) fn line(random: &mut Random, now: &Now, out: &mut Vec<u8>) {
    address(random, out);
    let user = if random.chance(3) {
        random.pick(&["alice", "bob", "deploy", "monitor"])
    } else {
        "-"
    };
    let method = if random.chance(85) {
        "GET"
    } else {
        random.pick(&["POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"])
    };
    let _ = write!(out, " - {user} [{} +0000] \"{method} ", now.access);
    path(random, out);
    let status = status(random);
    let bytes = if status == 304 {
        0
    } else {
        180 + random.skewed(60_000)
    };
    let _ = write!(out, " HTTP/1.1\" {status} {bytes} \"");
    let referer = random.pick(&REFERERS);
    out.extend_from_slice(referer.as_bytes());
    if referer.ends_with('=') {
        out.extend_from_slice(random.pick(&WORDS).as_bytes());
    } else if referer.ends_with("item/") {
        let _ = write!(out, "{}", random.below(50_000));
    }
    out.extend_from_slice(b"\" \"");
    agent(random, out);
    let micros = 300 + random.skewed(4_000_000);
    let _ = write!(
        out,
        "\" {}.{:03} {:016x}{:016x}",
        micros / 1_000_000,
        micros / 1000 % 1000,
        random.next(),
        random.next()
    );
}

fn agent(random: &mut Random, out: &mut Vec<u8>) {
    let agent = AGENTS[usize::try_from(random.skewed(AGENTS.len() as u64)).unwrap_or(0)];
    for byte in agent.bytes() {
        let _ = match byte {
            b'#' => write!(out, "{}", random.skewed(400)),
            byte => out.write_all(&[byte]),
        };
    }
}

/// One of some 300,000 clients, a few of them busy.
fn address(random: &mut Random, out: &mut Vec<u8>) {
    let mut client = Random::new(random.skewed(300_000) ^ 0x5eed);
    let [a, b, c, d, ..] = client.next().to_le_bytes();
    let _ = if a < 24 {
        write!(
            out,
            "2001:db8:{:x}:{:x}::{:x}",
            u16::from(b),
            u16::from(c) << 4,
            u16::from(d)
        )
    } else {
        write!(out, "{}.{b}.{c}.{d}", 1 + a % 223)
    };
}

fn path(random: &mut Random, out: &mut Vec<u8>) {
    let section = random.pick(&SECTIONS);
    let _ = match random.below(8) {
        0 => write!(out, "/"),
        1 => write!(out, "/api/v2/{section}/{}", random.skewed(500_000)),
        2 => write!(
            out,
            "/api/v2/{section}?page={}&per_page=50&sort=created_at",
            random.skewed(400)
        ),
        3 => write!(
            out,
            "/{section}/{}-{}-{}",
            random.pick(&WORDS),
            random.pick(&WORDS),
            random.skewed(90_000)
        ),
        4 => write!(
            out,
            "/{section}/{:012x}.{}",
            random.next() >> 16,
            random.pick(&["js", "css", "png", "webp", "woff2"])
        ),
        5 => write!(
            out,
            "/search?q={}+{}&utm_source=newsletter",
            random.pick(&WORDS),
            random.pick(&WORDS)
        ),
        6 => write!(out, "/healthz"),
        _ => write!(out, "/{section}/{}", random.skewed(3_000)),
    };
}

fn status(random: &mut Random) -> u16 {
    match random.below(1000) {
        0..=859 => 200,
        860..=879 => 201,
        880..=899 => 204,
        900..=929 => 304,
        930..=939 => 301,
        940..=969 => 404,
        970..=979 => 401,
        980..=986 => 403,
        987..=990 => 429,
        991..=994 => 500,
        995..=997 => 502,
        _ => 503,
    }
}
