//! Stable error codes: what an operator can search for, quote in a ticket and pass to `explain`.
//!
//! | range | about |
//! | --- | --- |
//! | E01xx | configuration |
//! | E02xx | tokens, certificates, sessions |
//! | E03xx | batches, blocks, codecs |
//! | E04xx | commit log, spool, disk |
//! | E05xx | store and queries |
//! | E06xx | sources |
//!
//! A code is never given another meaning and never reused. An error names its code by the constant here, so
//! that a code without a text cannot exist.

use std::fmt;

/// One stable code with its general explanation. The error that carries it says what happened *here*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// `E` and four digits.
    pub code: &'static str,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What a person can do about it.
    pub help: &'static str,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// The explanation of a code, whatever its case (`e0203` finds E0203).
#[must_use]
pub fn explain(code: &str) -> Option<&'static ErrorCode> {
    ALL.iter()
        .find(|known| known.code.eq_ignore_ascii_case(code.trim()))
        .copied()
}

/// Declares each code as a constant and lists it in `ALL`, so that the two cannot differ.
macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $help:literal;)*) => {
        $(#[doc = concat!($code, ": ", $title, ".")]
        pub const $name: ErrorCode = ErrorCode { code: $code, title: $title, help: $help };)*

        /// Every code, in ascending order.
        pub const ALL: &[&ErrorCode] = &[$(&$name),*];
    };
}

codes! {
    CONFIG_NOT_FOUND = "E0101", "configuration file not found",
        "Check the path given with --config, or create the file from the commented example in config/.";
    CONFIG_UNREADABLE = "E0102", "configuration file cannot be read",
        "Make the file readable for the user that runs the program (ls -l FILE; chmod, chown), and check that it is a file.";
    CONFIG_SYNTAX = "E0103", "configuration is not valid TOML",
        "Correct the marked place. Strings need quotes, a table starts with [name], a list with [ and ends with ].";
    CONFIG_UNKNOWN_KEY = "E0104", "unknown configuration key",
        "Correct the spelling or remove the line: an unknown key is refused so that a typing error cannot silently turn a setting off.";
    CONFIG_WRONG_VALUE = "E0105", "a setting has the wrong type or value",
        "Write the value in the form that the message names.";
    CONFIG_MISSING_KEY = "E0106", "a required setting is missing",
        "Add the named key to the marked table.";
    CONFIG_VARIABLE_UNSET = "E0107", "an environment variable in the configuration is not set",
        "Set the variable for the service, or give a default: ${NAME:-default}. A literal ${ is written $${.";
    CONFIG_INVALID = "E0108", "a setting cannot be used",
        "The value is well formed but does not fit the machine or the other settings; the message says why.";
    CONFIG_TOO_LARGE = "E0109", "configuration file is too large",
        "Check that the path names a configuration and not a data file.";

    TOKEN_MISSING = "E0201", "no token was presented",
        "Send the token as `Authorization: Bearer TOKEN`; an agent reads it from the token_file of its configuration.";
    TOKEN_MALFORMED = "E0202", "the token is not a valid EdgeLogger token",
        "Copy the whole token, three parts joined by dots, without quotes or line breaks; or make one with `edgelogger-collector token create`.";
    WRONG_INSTANCE = "E0203", "another installation uses this agent identity",
        "Give each machine its own agent name and token. After cloning an image, delete the agent's state directory on the clone; after moving an agent for good, stop it where it was.";
    STALE_EPOCH = "E0204", "a newer session of the same agent took over",
        "Nothing, if the agent was restarted. If it repeats, two processes run from the same state directory: stop one.";
    UNKNOWN_PROTOCOL = "E0205", "no protocol version in common",
        "Upgrade the older of agent and collector; collectors first.";
    NOT_TLS = "E0206", "the other side does not speak TLS",
        "Use the ingest port of the collector (https or wss). If a proxy stands between, let it pass TLS through or end TLS itself.";
    TOKEN_BAD_SIGNATURE = "E0207", "the token was not signed by this collector",
        "Use a token that this collector issued, or add the issuer's public key to its verifying keys; after the signing key was replaced, issue new tokens.";
    TOKEN_EXPIRED = "E0208", "the token has expired",
        "Make a new token with `edgelogger-collector token create` and put it in the agent's token file. If the time in the message is wrong, correct the clock.";
    TOKEN_NOT_YET_VALID = "E0209", "the token is not valid yet",
        "Compare the clocks of the machine that issued the token and of the one that checked it; use NTP.";
    TOKEN_WRONG_AUDIENCE = "E0210", "the token is for another audience",
        "Agents send data with an agent token; people and tools query with an API token. Make one of the right kind with `edgelogger-collector token create`.";
    TOKEN_WRONG_ALGORITHM = "E0211", "the token uses an algorithm that is not accepted",
        "Only EdDSA (Ed25519) is accepted. Make the token with `edgelogger-collector token create`.";
    TOKEN_BAD_CLAIM = "E0212", "the token lacks a required claim or has one that cannot be used",
        "iss, aud, sub, iat, nbf, exp and jti are all required. Make the token with `edgelogger-collector token create`.";
    KEY_UNUSABLE = "E0213", "a key or certificate file cannot be used",
        "Check path, owner and permissions; restore the file from a backup. A key of the collector that is deleted is made anew, and everything that trusted the old one must then be renewed.";
    TLS_UNKNOWN_CA = "E0214", "the certificate is not signed by the trusted CA",
        "Copy ca.pem from the collector's TLS directory to the agent. If it used to work, the CA was replaced, or something intercepts the connection.";
    TLS_WRONG_NAME = "E0215", "the certificate is for other names",
        "Connect by a name that the certificate lists, or add the name to the collector's TLS names and restart it.";
    TLS_EXPIRED = "E0216", "the certificate is out of date",
        "Check the clocks of both machines. The collector renews its own certificate in time; one from elsewhere must be renewed there, and is used within a minute.";
    TLS_VERSION = "E0217", "no TLS version or cipher in common",
        "EdgeLogger speaks TLS 1.3 only. Upgrade the other side, or the proxy between.";
    TLS_HANDSHAKE = "E0218", "the TLS handshake failed",
        "The message names what the other side said. Check that nothing between the two changes or cuts the connection.";
    PROTOCOL_VIOLATION = "E0219", "the other side broke the protocol",
        "Check that agent and collector are both released builds and that nothing between them changes the data; report it with the versions of both programs.";
    WRONG_AGENT = "E0220", "an agent speaks for another name than its token",
        "The agent's name comes from its token. Give this machine a token of its own: `edgelogger-collector token create --agent NAME`.";
    COLLECTOR_BUSY = "E0221", "the collector serves as many agents as it may",
        "Nothing: agents come back by themselves. If it lasts, raise sessions_max and memory in [ingest], or add a collector.";
    COLLECTOR_STOPPING = "E0222", "the collector is stopping",
        "Nothing: agents reconnect by themselves when it is back.";
    COLLECTOR_UNREACHABLE = "E0223", "the collector cannot be reached",
        "Check that it runs, the url in [collector], and the network and firewalls between. The agent tries again by itself; nothing is lost while its sources keep their data.";
    NOT_A_COLLECTOR = "E0224", "the other side is not a collector's ingest port",
        "Check host, port and path of the url in [collector]. The ingest port is 7443; the API port is another.";
    LOG_REPLACED = "E0225", "the collector's log is another one than before",
        "The collector was restored or set up anew. What was acknowledged before may only be in the old log: restore its data folder; or stop the agent and have the files that are still there sent again (`edgelogger-agent rewind --all --to stored`); or accept the gap (`edgelogger-agent rewind --accept-gap`).";

    CHECKSUM_MISMATCH = "E0301", "a checksum does not match",
        "The data changed on its way or on disk and was refused; the agent sends it again. If it repeats, test memory, disk and network hardware.";
    DECOMPRESSION_LIMIT = "E0302", "a batch would decompress beyond the limit",
        "Raise the collector's decompression limits if the data is legitimate, or make the agent's batches smaller.";
    MALFORMED_BLOCK = "E0303", "a block is malformed",
        "The collector refused it and the agent declares its range lost. Report it with the versions of both programs.";
    UNKNOWN_KIND = "E0304", "a block is of an unknown kind",
        "Upgrade the program that reports it: the other side is newer.";
    UNKNOWN_CODEC = "E0305", "a batch uses an unknown codec",
        "Upgrade the program that reports it, or choose another codec in the agent's configuration.";
    MALFORMED_PAYLOAD = "E0306", "a compressed batch does not open",
        "The collector refused it and the agent declares its range lost. If it repeats, test memory and disk of the agent's machine; otherwise report it with the versions of both programs.";
    COMPRESSION_FAILED = "E0307", "a batch cannot be compressed",
        "The machine is out of memory: free some, or choose a codec or level that needs less (lz4, zstd:1).";
    UNKNOWN_STREAM = "E0308", "a block belongs to a stream that was not opened",
        "The collector refused the block and the agent declares its range lost. Report it with the versions of both programs.";
    BLOCK_LIMIT = "E0309", "a block or a record exceeds a limit of the collector",
        "The agent sends everything else and declares that record lost. Raise record_bytes_max in [ingest] of the collector, or lower line_bytes_max of the agent's source.";

    LOG_DISK_FULL = "E0401", "the disk of the commit log or spool is full",
        "Free space or raise the limit. Nothing is lost: agents are told to wait, and sending resumes by itself.";
    LOG_POISONED = "E0402", "a write to the log failed, so it accepts no more",
        "Look for disk errors (dmesg) and replace the disk if there are any. The program reopens and verifies the log by itself; nothing unverified is acknowledged.";
    LOG_LOCKED = "E0403", "the log or spool belongs to another running process",
        "Two programs run on the same state directory. Stop one, or give it a directory of its own.";
    LOG_IO = "E0404", "the log or spool cannot be read or written",
        "The message names the file and what the system answered. Look for disk errors (dmesg), check owner and mount of the directory; sending resumes by itself.";
    LOG_FRAME_TOO_LARGE = "E0405", "an entry is too large for the log",
        "Make the agent's batches smaller, or raise the largest frame of the log.";
    LOG_SEQUENCE_AHEAD = "E0406", "a reader asks for what the log does not have yet",
        "The log was replaced or restored from an older copy. Restore the newest copy, or reset the cursor of the sink that the message names.";
    LOG_TOO_NEW = "E0407", "the log was written by a newer version",
        "Run the version that wrote it, or a later one.";
    DATA_DIR_LOCKED = "E0408", "the data folder belongs to another running collector",
        "Stop the other collector, or give this one a folder of its own with --data-dir.";
    LOG_DAMAGED = "E0409", "entries of the commit log are damaged",
        "The message names what was lost; agents do not send acknowledged data again. Test the disk; damaged bytes are kept in log/quarantine.";

    SQL_NOT_READ_ONLY = "E0501", "the SQL statement is not a read-only query",
        "Only SELECT and EXPLAIN are accepted, one statement at a time.";
    SQL_RESOURCE_LIMIT = "E0502", "the query needs more memory or time than allowed",
        "Narrow the time range, select fewer columns or add a LIMIT; or raise the query limits of the collector.";
    SINK_STOPPED = "E0503", "a sink cannot apply what the log holds",
        "The message says why. Nothing is lost: the log keeps the entries and the sink tries again by itself.";
    BAD_REQUEST = "E0504", "a request to the API cannot be understood",
        "Correct the parameter that the message names.";
    NO_COLLECTOR = "E0505", "no collector answers",
        "Start it with `edgelogger-collector run`, or name its address with --url.";
    QUERY_FAILED = "E0506", "a query failed",
        "Correct the query as the message says.";
    NOT_FOUND = "E0507", "there is nothing at this address",
        "GET /api/v1/openapi.json lists everything that the API answers; agents connect to /v1/session on the ingest port.";
    CONFLICT = "E0508", "a request is refused as things are",
        "The message says what stands against it, and how to do it all the same.";
    API_BUSY = "E0509", "the API serves as many as it may",
        "Try again in a moment. If it lasts, close live tails and connections that nobody reads, or raise connections_max and tails_max in [api].";
    OTHER_CURSOR = "E0510", "a page cursor is not of this question",
        "Ask for further pages with the very parameters of the first (only limit, format and fields may differ), or begin again without the cursor.";
    BAD_PATTERN = "E0511", "a regular expression cannot be used",
        "Correct it as the message says. The syntax is that of Rust's regex crate: no look-around and no back-references, so that no pattern takes long.";
    DELETION_REFUSED = "E0512", "a deletion was not accepted",
        "Nothing was deleted. The message says what stands against it: free space on the store's disk, wait until the store has caught up, or restore the journal of deletions from a backup; then ask again.";

    FILE_UNREADABLE = "E0601", "a source file cannot be read",
        "Give the agent's user read access (group adm for most of /var/log), or exclude the file.";
    NOT_A_REGULAR_FILE = "E0602", "a source path is not a regular file",
        "Name files, not directories, sockets, pipes or devices; or exclude the path.";
    BINARY_FILE = "E0603", "a source file looks binary",
        "Exclude the file. If it is a log after all, allow binary content for its source.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_well_formed() {
        for pair in ALL.windows(2) {
            assert!(
                pair[0].code < pair[1].code,
                "{} stands before {}",
                pair[0].code,
                pair[1].code
            );
        }
        for known in ALL {
            let digits = known.code.strip_prefix('E').unwrap();
            assert!(
                digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()),
                "{known}"
            );
        }
    }

    #[test]
    fn every_code_says_what_happened_and_what_to_do() {
        for known in ALL {
            assert!(!known.title.is_empty() && !known.title.ends_with('.'), "{known}");
            assert!(known.help.ends_with('.') && known.help.len() > 20, "{known}");
        }
    }

    #[test]
    fn a_code_is_explained_whatever_its_case() {
        assert_eq!(explain(" e0203 "), Some(&WRONG_INSTANCE));
        assert_eq!(explain("E9999"), None);
    }
}
