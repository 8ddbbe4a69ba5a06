//! Parameters of a URL. One table of them says what each is called, what it may be and what it is for: requests are
//! checked by it, and the API's description is made of it, so the two cannot differ.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::when::parse_when;

/// Least likeness (Jaro-Winkler, 0 to 1) for a "did you mean".
const LIKENESS_MIN: f64 = 0.75;
/// Parameters in one request, each `attr.KEY` counted.
const COUNT_MAX: usize = 64;
/// Longest key of a family (`attr.KEY`) and longest value there, in characters.
const KEY_CHARS_MAX: usize = 256;
const VALUE_CHARS_MAX: usize = 4096;
/// Milliseconds since 1970 until the year 5138; as nanoseconds beyond 2262 they become the last time that there is.
const MOMENT_DIGITS_MAX: usize = 14;

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// As in the URL. Of a family, what stands before the dot.
    pub name: &'static str,
    /// What it is for: a sentence without its full stop.
    pub about: &'static str,
    /// What it may be.
    pub kind: Kind,
}

impl Parameter {
    /// A parameter.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, kind: Kind) -> Self {
        Self { name, about, kind }
    }
}

/// What a parameter may be.
#[derive(Debug)]
pub enum Kind {
    /// A time, as [`parse_when`] reads it.
    Time,
    /// A whole number.
    Integer {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
        /// When it is left out.
        default: Option<u64>,
    },
    /// `true` or `false`; `false` when it is left out.
    Flag,
    /// One of these words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// When it is left out.
        default: Option<&'static str>,
    },
    /// Some of these words, with commas between.
    Words(&'static [&'static str]),
    /// Text of at least one character.
    Text {
        /// Its greatest length, in characters.
        chars_max: usize,
    },
    /// So many hexadecimal digits, in lower case.
    Hex {
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// Where a tail was: the address of a record (stream and position), or a moment in ms since 1970 behind an `@`. An
    /// empty one says nothing.
    Place,
    /// `NAME.KEY=VALUE`, any number of them.
    Family,
}

impl Kind {
    /// A whole number from `min` to `max`.
    #[must_use]
    pub const fn integer(min: u64, max: u64, default: Option<u64>) -> Self {
        Self::Integer { min, max, default }
    }

    /// One of these words.
    #[must_use]
    pub const fn choice(words: &'static [&'static str], default: Option<&'static str>) -> Self {
        Self::Choice { words, default }
    }
}

/// The parameters of one request, checked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    values: Vec<(&'static str, Given)>,
    pairs: Vec<(&'static str, String, String)>,
}

#[derive(Debug, Clone)]
enum Given {
    Time(i64),
    Integer(u64),
    Flag(bool),
    Word(&'static str),
    Words(Vec<&'static str>),
    Text(String),
}

impl Asked {
    /// Reads the query part of a URL.
    ///
    /// # Errors
    /// Names that are not known here, with the nearest that is; values that are not allowed, with what is.
    pub fn read(query: &str, known: &'static [&'static Parameter], now_ns: i64) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if index >= COUNT_MAX {
                return Err(Problem::bad_request(format!(
                    "more than {COUNT_MAX} parameters in one request"
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name =
                decoded(name).ok_or_else(|| Problem::bad_request("the name of a parameter is not UTF-8"))?;
            let value = decoded(value)
                .ok_or_else(|| Problem::bad_request(format!("`{}` is not UTF-8", shortened(&name))))?;
            asked.take(&name, value, known, now_ns)?;
        }
        Ok(asked)
    }

    fn take(
        &mut self,
        name: &str,
        value: String,
        known: &'static [&'static Parameter],
        now_ns: i64,
    ) -> Result<(), Problem> {
        let is_family = |parameter: &Parameter| matches!(parameter.kind, Kind::Family);
        if let Some((family, key)) = name.split_once('.')
            && let Some(parameter) = known
                .iter()
                .find(|parameter| is_family(parameter) && parameter.name == family)
        {
            check_chars(name, key, 1, KEY_CHARS_MAX)?;
            check_chars(name, &value, 0, VALUE_CHARS_MAX)?;
            self.pairs.push((parameter.name, key.to_owned(), value));
            return Ok(());
        }
        let found = known
            .iter()
            .find(|parameter| !is_family(parameter) && parameter.name == name);
        let parameter = found.ok_or_else(|| unknown(name, known))?;
        if self.get(parameter).is_some() {
            return Err(Problem::bad_request(format!(
                "`{name}` is given more than once; give it once"
            )));
        }
        let given = parameter.check(value, now_ns)?;
        self.values.push((parameter.name, given));
        Ok(())
    }

    fn get(&self, parameter: &Parameter) -> Option<&Given> {
        self.values
            .iter()
            .find(|(name, _)| *name == parameter.name)
            .map(|(_, given)| given)
    }

    /// A time, ns.
    #[must_use]
    pub fn time(&self, parameter: &Parameter) -> Option<i64> {
        match self.get(parameter) {
            Some(Given::Time(ns)) => Some(*ns),
            _ => None,
        }
    }

    /// A number, or its default.
    #[must_use]
    pub fn integer(&self, parameter: &Parameter) -> Option<u64> {
        match (self.get(parameter), &parameter.kind) {
            (Some(Given::Integer(number)), _) => Some(*number),
            (_, Kind::Integer { default, .. }) => *default,
            _ => None,
        }
    }

    /// As [`Asked::integer`], for a number of things in memory that has a default.
    #[must_use]
    pub fn count(&self, parameter: &Parameter) -> usize {
        usize::try_from(self.integer(parameter).unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// Was it said, and is it true?
    #[must_use]
    pub fn flag(&self, parameter: &Parameter) -> bool {
        matches!(self.get(parameter), Some(Given::Flag(true)))
    }

    /// A word, or its default.
    #[must_use]
    pub fn word(&self, parameter: &Parameter) -> Option<&'static str> {
        match (self.get(parameter), &parameter.kind) {
            (Some(Given::Word(word)), _) => Some(*word),
            (_, Kind::Choice { default, .. }) => *default,
            _ => None,
        }
    }

    /// Words.
    #[must_use]
    pub fn words(&self, parameter: &Parameter) -> Option<&[&'static str]> {
        match self.get(parameter) {
            Some(Given::Words(words)) => Some(words),
            _ => None,
        }
    }

    /// Text, or digits.
    #[must_use]
    pub fn text(&self, parameter: &Parameter) -> Option<&str> {
        match self.get(parameter) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The pairs of a family, in the order in which they came.
    #[must_use]
    pub fn pairs(&self, parameter: &Parameter) -> Vec<(String, String)> {
        let of_family = self.pairs.iter().filter(|(name, ..)| *name == parameter.name);
        of_family
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Two times that must not be the wrong way round.
    ///
    /// # Errors
    /// When they are.
    pub fn range(&self, from: &Parameter, to: &Parameter) -> Result<(Option<i64>, Option<i64>), Problem> {
        let times = (self.time(from), self.time(to));
        if let (Some(first), Some(last)) = times
            && first > last
        {
            return Err(Problem::unprocessable(format!(
                "`{}` is after `{}`; nothing can lie between them: exchange them",
                from.name, to.name
            )));
        }
        Ok(times)
    }
}

impl Parameter {
    fn check(&self, value: String, now_ns: i64) -> Result<Given, Problem> {
        let name = self.name;
        let wrong = |what: String| Err(Problem::bad_request(format!("`{name}` {what}")));
        match &self.kind {
            Kind::Time => match parse_when(&value, now_ns) {
                Ok(ns) => Ok(Given::Time(ns)),
                Err(error) => wrong(format!(": {error}")),
            },
            Kind::Integer { min, max, .. } => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                match value.parse::<u64>() {
                    Ok(number) if digits && (*min..=*max).contains(&number) => Ok(Given::Integer(number)),
                    _ => wrong(format!(
                        "is {:?}, allowed is a whole number from {min} to {max}",
                        shortened(&value)
                    )),
                }
            }
            Kind::Flag => match value.as_str() {
                "true" => Ok(Given::Flag(true)),
                "false" => Ok(Given::Flag(false)),
                _ => wrong(format!("is {:?}, allowed is true or false", shortened(&value))),
            },
            Kind::Choice { words, .. } => match words.iter().find(|word| **word == value) {
                Some(word) => Ok(Given::Word(word)),
                None => wrong(not_among(&value, words)),
            },
            Kind::Words(words) => {
                let mut chosen = Vec::new();
                for part in value.split(',') {
                    match words.iter().find(|word| **word == part) {
                        Some(word) if !chosen.contains(word) => chosen.push(*word),
                        Some(_) => return wrong(format!("names {part} twice")),
                        None => return wrong(not_among(part, words)),
                    }
                }
                Ok(Given::Words(chosen))
            }
            Kind::Text { chars_max } => {
                check_chars(name, &value, 1, *chars_max)?;
                Ok(Given::Text(value))
            }
            Kind::Hex { min, max } => {
                let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
                if (*min..=*max).contains(&value.len()) && value.bytes().all(is_hex) {
                    return Ok(Given::Text(value));
                }
                let length = if min == max {
                    format!("{min}")
                } else {
                    format!("{min} to {max}")
                };
                wrong(format!("is not {length} hexadecimal digits in lower case"))
            }
            Kind::Place => {
                if value.is_empty() || is_place(&value) {
                    return Ok(Given::Text(value));
                }
                wrong(
                    "is no event's id: 32 hexadecimal digits, a colon and a position, or @ and milliseconds since 1970"
                        .to_owned(),
                )
            }
            Kind::Family => wrong(format!("needs a key: {name}.KEY=VALUE")),
        }
    }

    /// Checks text that came in another way than in the URL.
    ///
    /// # Errors
    /// As in a URL.
    pub fn check_text(&self, text: &str) -> Result<(), Problem> {
        self.check(text.to_owned(), 0).map(|_| ())
    }

    /// As OpenAPI describes it.
    #[must_use]
    pub fn describe(&self) -> Value {
        let mut described = json!({ "name": self.name, "in": "query", "required": false, "description": format!("{}.", self.about) });
        described["schema"] = self.schema();
        match self.kind {
            // `attr.KEY=VALUE`: an object whose members are parameters of their own.
            Kind::Family => {
                described["style"] = json!("form");
                described["explode"] = json!(true);
            }
            Kind::Words(_) => {
                described["style"] = json!("form");
                described["explode"] = json!(false);
            }
            _ => {}
        }
        described
    }

    /// Its values, as JSON Schema.
    #[must_use]
    pub fn schema(&self) -> Value {
        let with_default = |mut schema: Value, default: Option<Value>| {
            if let Some(default) = default {
                schema["default"] = default;
            }
            schema
        };
        match &self.kind {
            Kind::Time => json!({
                "type": "string",
                "anyOf": [
                    { "const": "now" },
                    { "format": "date-time" },
                    { "format": "date" },
                    { "pattern": "^-[1-9][0-9]{0,3}(ms|s|m|h|d|w)$" },
                ],
                "examples": ["-15m", "2026-11-21T10:02:00Z", "2026-11-21", "now"],
            }),
            Kind::Integer { min, max, default } => with_default(
                json!({ "type": "integer", "minimum": min, "maximum": max }),
                default.map(Value::from),
            ),
            Kind::Flag => json!({ "type": "boolean", "default": false }),
            Kind::Choice { words, default } => with_default(
                json!({ "type": "string", "enum": words }),
                default.map(Value::from),
            ),
            Kind::Words(words) => json!({
                "type": "array", "items": { "type": "string", "enum": words }, "minItems": 1, "uniqueItems": true,
            }),
            Kind::Text { chars_max } => json!({ "type": "string", "minLength": 1, "maxLength": chars_max }),
            Kind::Hex { min, max } => {
                json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{min},{max}}}$") })
            }
            Kind::Place => {
                json!({ "type": "string", "pattern": "^([0-9a-f]{32}:[0-9]{1,18}|@[0-9]{1,14})?$" })
            }
            Kind::Family => json!({
                "type": "object",
                "propertyNames": { "pattern": format!("^{}\\..{{1,{KEY_CHARS_MAX}}}$", self.name) },
                "additionalProperties": { "type": "string", "maxLength": VALUE_CHARS_MAX },
                "maxProperties": 16,
            }),
        }
    }
}

fn is_place(text: &str) -> bool {
    let is_number = |text: &str, digits_max| {
        (1..=digits_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some(moment) = text.strip_prefix('@') {
        return is_number(moment, MOMENT_DIGITS_MAX);
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    text.split_once(':').is_some_and(|(stream_id, position)| {
        stream_id.len() == 32 && stream_id.bytes().all(is_hex) && is_number(position, 18)
    })
}

fn decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn check_chars(name: &str, value: &str, min: usize, max: usize) -> Result<(), Problem> {
    let chars = value.chars().count();
    if chars < min {
        return Err(Problem::bad_request(format!(
            "`{}` is empty; give it a value or leave it out",
            shortened(name)
        )));
    }
    if chars > max {
        return Err(Problem::bad_request(format!(
            "`{}` has {chars} characters, allowed are {max}",
            shortened(name)
        )));
    }
    Ok(())
}

fn not_among(value: &str, words: &[&str]) -> String {
    let near = nearest(value, words.iter().copied())
        .map(|word| format!("; did you mean {word}?"))
        .unwrap_or_default();
    format!(
        "cannot be {:?}{near} (allowed: {})",
        shortened(value),
        words.join(", ")
    )
}

fn unknown(name: &str, known: &[&Parameter]) -> Problem {
    let shown = |parameter: &&Parameter| match parameter.kind {
        Kind::Family => format!("{}.KEY", parameter.name),
        _ => parameter.name.to_owned(),
    };
    let names: Vec<String> = known.iter().map(shown).collect();
    let what = format!("unknown parameter `{}`", shortened(name));
    Problem::bad_request(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("{what}; did you mean `{near}`?"),
        None if names.is_empty() => format!("{what}; there are none here"),
        None => format!("{what}; those known here are {}", names.join(", ")),
    })
}

/// The likest of some words, when one is like enough.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(60).collect::<String>().to_lowercase();
    let likeness = |candidate: &str| strsim::jaro_winkler(&word, candidate);
    candidates
        .map(|candidate| (likeness(candidate), candidate))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static FROM: Parameter = Parameter::new("from", "", Kind::Time);
    static TO: Parameter = Parameter::new("to", "", Kind::Time);
    static MACHINE: Parameter = Parameter::new("machine", "", Kind::Text { chars_max: 5 });
    static LIMIT: Parameter = Parameter::new("limit", "", Kind::integer(1, 10, Some(3)));
    static ORDER: Parameter = Parameter::new("order", "", Kind::choice(&["asc", "desc"], Some("desc")));
    static FIELDS: Parameter = Parameter::new("fields", "", Kind::Words(&["time", "body"]));
    static ATTR: Parameter = Parameter::new("attr", "", Kind::Family);
    static I: Parameter = Parameter::new("i", "", Kind::Flag);
    static ID: Parameter = Parameter::new("id", "", Kind::Hex { min: 4, max: 4 });
    static ALL: [&Parameter; 9] = [&FROM, &TO, &MACHINE, &LIMIT, &ORDER, &FIELDS, &ATTR, &I, &ID];

    fn read(query: &str) -> Result<Asked, Problem> {
        Asked::read(query, &ALL, 3_600_000_000_000)
    }

    #[track_caller]
    fn refused(query: &str, words: &str) {
        let problem = format!("{:?}", read(query).expect_err(query));
        assert!(problem.contains(words), "{query}: {problem}");
    }

    #[test]
    fn what_is_given_comes_back_and_what_is_not_has_its_default() {
        let asked =
            read("from=-15m&machine=a%2Bb&limit=10&fields=body,time&i=true&id=00af&attr.k=v&attr.k=w+x")
                .unwrap();
        assert_eq!(asked.time(&FROM), Some(2_700_000_000_000));
        assert_eq!(asked.text(&MACHINE), Some("a+b"));
        assert_eq!((asked.count(&LIMIT), asked.word(&ORDER)), (10, Some("desc")));
        assert_eq!(asked.words(&FIELDS), Some(&["body", "time"][..]));
        assert!(asked.flag(&I));
        assert_eq!(asked.text(&ID), Some("00af"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(asked.pairs(&ATTR), [pair("k", "v"), pair("k", "w x")]);
        let nothing = read("").unwrap();
        assert_eq!(
            (nothing.count(&LIMIT), nothing.flag(&I), nothing.time(&TO)),
            (3, false, None)
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_right_one() {
        refused("machne=a", "unknown parameter `machne`; did you mean `machine`?");
        refused("form=-1h", "did you mean `from`?");
        refused("xyz=1", "those known here are from, to");
        refused("attr=1", "attr.KEY");
        refused("order=des", "did you mean desc?");
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_what_is() {
        refused("limit=0", "from 1 to 10");
        refused("limit=%2B5", "from 1 to 10");
        refused("limit=1.0", "from 1 to 10");
        refused("i=yes", "true or false");
        refused("machine=", "empty");
        refused("machine=abcdef", "allowed are 5");
        refused("machine=%ff", "UTF-8");
        refused("from=soon", "-15m");
        refused("from=now&from=now", "more than once");
        refused("fields=body,body", "twice");
        refused("id=00AF", "lower case");
        refused("attr.=x", "empty");
    }

    #[test]
    fn a_range_the_wrong_way_round_is_refused() {
        let range = |query| read(query).unwrap().range(&FROM, &TO);
        assert!(range("from=-1m&to=-1h").is_err());
        assert!(range("from=-1h&to=-1m").is_ok() && range("from=now&to=now").is_ok());
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "[a-z%=&+.0-9]{0,60}|.{0,60}") {
            let _ = read(&query);
        }
    }
}
