//! Records as rows: what sources that are not files build from, and what tests compare with.

/// A typed attribute value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    String(String),
    I64(i64),
    F64(f64),
    Bool(bool),
    Bytes(Vec<u8>),
}

/// What is special about a record; bits of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordFlags(pub u8);

impl RecordFlags {
    /// The body was longer than the limit and was cut.
    pub const TRUNCATED: Self = Self(1);
    /// A piece of a record that was cut at the edge of a range.
    pub const FRAGMENT: Self = Self(2);
    /// Part of its range is also covered by a record that was stored before.
    pub const OVERLAPS: Self = Self(4);
    /// The source ended without a line feed.
    pub const NO_LINE_FEED: Self = Self(8);
    /// Something in the body was replaced by policy.
    pub const REDACTED: Self = Self(16);
    /// Several source lines joined.
    pub const MULTILINE: Self = Self(32);
    /// All bits that v1 defines.
    pub const KNOWN: u8 = 63;

    /// Are all bits of `other` set?
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and `other`'s.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One log record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogRow {
    /// ns UTC, where the source says it.
    pub event_time: Option<i64>,
    /// ns UTC.
    pub observed_time: i64,
    /// 1-24.
    pub severity: Option<u8>,
    /// Text, as bytes.
    pub body: Vec<u8>,
    /// Key and value, keys once each.
    pub attributes: Vec<(String, Value)>,
    /// W3C trace id.
    pub trace_id: Option<[u8; 16]>,
    /// W3C span id.
    pub span_id: Option<[u8; 8]>,
    /// Positions it used, at least 1.
    pub source_len: u64,
    /// What is special about it.
    pub flags: RecordFlags,
}

/// What a metric's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum MetricKind {
    #[default]
    Gauge = 1,
    Counter = 2,
    Histogram = 3,
    Summary = 4,
}

impl MetricKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Gauge),
            2 => Some(Self::Counter),
            3 => Some(Self::Histogram),
            4 => Some(Self::Summary),
            _ => None,
        }
    }

    /// The word shown to people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Since when a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Temporality {
    #[default]
    Unspecified = 0,
    Delta = 1,
    Cumulative = 2,
}

impl Temporality {
    /// The temporality with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Unspecified),
            1 => Some(Self::Delta),
            2 => Some(Self::Cumulative),
            _ => None,
        }
    }
}

/// May the value be trusted?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Quality {
    #[default]
    Good = 0,
    Uncertain = 1,
    Bad = 2,
}

impl Quality {
    /// The quality with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Good),
            1 => Some(Self::Uncertain),
            2 => Some(Self::Bad),
            _ => None,
        }
    }
}

/// Observations counted by bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
    /// One more than bounds.
    pub counts: Vec<i64>,
}

/// Quantiles as the source computed them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// 0 to 1.
    pub quantiles: Vec<f64>,
    /// One for each quantile.
    pub values: Vec<f64>,
}

/// One metric sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricRow {
    /// ns UTC, where the source says it.
    pub event_time: Option<i64>,
    /// ns UTC.
    pub observed_time: i64,
    /// OpenTelemetry name, such as `system.cpu.time`.
    pub name: String,
    /// UCUM unit, such as `By`.
    pub unit: String,
    /// Meaning of the value.
    pub kind: MetricKind,
    /// Since when it counts.
    pub temporality: Temporality,
    /// ns UTC, of a counter or histogram.
    pub start_time: Option<i64>,
    /// Labels.
    pub labels: Vec<(String, Value)>,
    /// Value of a gauge or counter.
    pub value: Option<f64>,
    /// May it be trusted?
    pub quality: Quality,
    /// Observations of a histogram or summary.
    pub count: Option<i64>,
    /// Their sum.
    pub sum: Option<f64>,
    /// Buckets.
    pub histogram: Histogram,
    /// Quantiles.
    pub summary: Summary,
    /// Positions it used, at least 1.
    pub source_len: u64,
}
