//! Server-sent events, as a tail sends them: fields up to an empty line. Pure: bytes come in, in pieces as the network cuts
//! them, and events come out.

/// Text of one event that is not complete. A record has some MiB at most, and in JSON no character takes more than six.
const EVENT_BYTES_MAX: usize = 128 << 20;

/// One event. What it does not say is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Where a tail goes on that comes back.
    pub id: Option<String>,
    /// What kind it is.
    pub name: Option<String>,
    /// Its text; lines are joined.
    pub data: Option<String>,
}

/// More text than an event may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What has come of a stream of events.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// A line that is not complete.
    line: Vec<u8>,
    /// An event that is not complete, and its length so far.
    event: Event,
    event_bytes: usize,
}

impl EventReader {
    /// Takes a piece, and gives the events that it completes.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                self.event_bytes = 0;
                let event = std::mem::take(&mut self.event);
                if event != Event::default() {
                    events.push(event);
                }
            } else {
                self.event_bytes += line.len();
                self.event.take(&String::from_utf8_lossy(line));
            }
        }
        self.line.extend_from_slice(rest);
        if self.event_bytes + self.line.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        Ok(events)
    }
}

impl Event {
    /// One line: a field, or a comment.
    fn take(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.name = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: Option<&str>, name: Option<&str>, data: Option<&str>) -> Event {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Event {
            id: owned(id),
            name: owned(name),
            data: owned(data),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[Event]) {
        assert_eq!(
            EventReader::default().read(text.as_bytes()).unwrap(),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn events_are_read_and_comments_are_not() {
        check(
            "id: @5\nretry: 2000\n: live\n\nid: a:1\ndata: {}\n\n:\n\nevent: missed\ndata: 1\ndata:2\n\n",
            &[
                event(Some("@5"), None, None),
                event(Some("a:1"), None, Some("{}")),
                event(None, Some("missed"), Some("1\n2")),
            ],
        );
        check("data: a\r\n\r\ndata", &[event(None, None, Some("a"))]);
        check("", &[]);
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut reader = EventReader::default();
        let piece = vec![b'x'; 16 << 20];
        let given_up = (0..9).map(|_| reader.read(&piece)).find(Result::is_err);
        assert_eq!(given_up, Some(Err(TooLong)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_text_is_cut(
            lines in prop::collection::vec("(id|data|event|:|x)?(: ?)?[a-zü]{0,5}\r?", 0..20),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let text = lines.join("\n").into_bytes();
            let whole = EventReader::default().read(&text).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut reader, mut events, mut from) = (EventReader::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                events.extend(reader.read(&text[from..cut]).unwrap());
                from = cut;
            }
            prop_assert_eq!(events, whole);
        }
    }
}
