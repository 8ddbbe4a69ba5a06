//! The data folder, and what the first start makes in it: CA, server certificate, signing key, a token for an agent on
//! this machine.
//!
//! ```text
//! DATA/
//!   version                  of all this
//!   lock                     one collector at a time
//!   log/                     commit log
//!   store/                   rows
//!   heads                    what agents last said of their streams
//!   dead-letters/            entries that no sink could take
//!   tls/ca.pem               what agents trust; also ca.key, server.pem, server.key
//!   tokens/signing.key       what tokens are signed with; also signing.pub
//!   tokens/NAME.token        for an agent on this machine
//! ```
//!
//! Nothing that exists is replaced, but for a server certificate that no longer fits and a token that expired.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::auth::{self, Audience, AuthError, KeyError, SigningKey, VerifyingKeys};
use edgelogger_common::disk::{Disk, DiskLock, OsDisk, atomic_replace};
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::tls::{self, TlsError};

use crate::config::Config;

/// The version of the data folder as this build makes it.
const DATA_VERSION: u64 = 1;
const VERSION_MAGIC: &str = "edgelogger-collector-data";

/// How long the token lasts that the first start makes.
pub const LOCAL_TOKEN_TTL: Duration = Duration::from_secs(365 * 86_400);

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Another collector has it.
    #[error("the data folder {} belongs to another running collector; stop that one, or choose another folder with --data-dir", .0.display())]
    Locked(PathBuf),
    /// It can't be made, read or written.
    #[error("cannot {action} {}: {source}; check owner and permissions, or choose another folder with --data-dir", path.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A newer collector made it.
    #[error("the data folder {} has version {found}, this collector knows up to {known}; use the newer collector again, or another folder with --data-dir", path.display())]
    TooNew {
        /// Which folder.
        path: PathBuf,
        /// Its version, as it stands there.
        found: String,
        /// The newest that is known here.
        known: u64,
    },
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Tokens.
    #[error(transparent)]
    Token(#[from] AuthError),
}

impl SetupError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Locked(_) => error_code::DATA_DIR_LOCKED,
            Self::Folder { .. } => error_code::LOG_IO,
            Self::TooNew { .. } => error_code::LOG_TOO_NEW,
            Self::Key(error) => error.error_code(),
            Self::Tls(error) => error.error_code(),
            Self::Token(error) => error.error_code(),
        }
    }
}

/// The places in a data folder.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Of this folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Commit log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What agents said of their machines.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.0.join("machines")
    }

    /// What agents last said of their streams.
    #[must_use]
    pub fn heads(&self) -> PathBuf {
        self.0.join("heads")
    }

    /// Entries that no sink could take.
    #[must_use]
    pub fn dead_letters(&self) -> PathBuf {
        self.0.join("dead-letters")
    }

    /// CA and certificates.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// What agents trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.tls().join(tls::CA_CERTIFICATE_FILE)
    }

    fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// What tokens are signed with, made when there is none.
    ///
    /// # Errors
    /// When it can't be read or made.
    pub fn signing_key(&self) -> Result<SigningKey, SetupError> {
        Ok(SigningKey::load_or_create(&self.tokens().join("signing.key"))?)
    }

    /// Is there a key that signs tokens?
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.tokens().join("signing.key").exists()
    }

    /// Makes the folder, for its owner alone: logs of machines and private keys lie in it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(&self) -> Result<(), SetupError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.0);
        made.map_err(|source| SetupError::Folder {
            action: "create the folder",
            path: self.0.clone(),
            source,
        })
    }

    /// Refuses a folder of a newer version; writes down the version of one that has none.
    ///
    /// # Errors
    /// [`SetupError::TooNew`], or the file can't be read or written.
    pub fn check_version(&self) -> Result<(), SetupError> {
        let path = self.0.join("version");
        let failed = |action| {
            let path = path.clone();
            move |source| SetupError::Folder { action, path, source }
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("{VERSION_MAGIC} {DATA_VERSION}\n");
                return atomic_replace(&OsDisk, &path, text.as_bytes())
                    .map_err(|error| failed("write")(error.source));
            }
            Err(source) => return Err(failed("read")(source)),
        };
        let found = text
            .trim_end()
            .strip_prefix(VERSION_MAGIC)
            .unwrap_or(&text)
            .trim();
        match found.parse::<u64>() {
            Ok(version) if version <= DATA_VERSION => Ok(()),
            _ => Err(SetupError::TooNew {
                path: self.0.clone(),
                found: found.chars().take(80).collect(),
                known: DATA_VERSION,
            }),
        }
    }

    /// Takes it for this process.
    ///
    /// # Errors
    /// [`SetupError::Locked`] when another process has it.
    pub fn lock(&self) -> Result<DiskLock, SetupError> {
        let path = self.0.join("lock");
        OsDisk.lock(&path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => SetupError::Locked(self.0.clone()),
            _ => SetupError::Folder {
                action: "lock",
                path,
                source,
            },
        })
    }
}

/// What tokens are signed and checked with.
#[derive(Debug)]
pub struct Keys {
    /// Signs.
    pub signing: SigningKey,
    /// Checks: the own one and those that were configured.
    pub verifying: VerifyingKeys,
}

impl Keys {
    /// Loads or makes them.
    ///
    /// # Errors
    /// Files that can't be used.
    pub fn prepare(config: &Config) -> Result<Self, SetupError> {
        let signing = DataDir::new(&config.data_dir).signing_key()?;
        let verifying = Self::verifying(&signing, &config.verifying_keys)?;
        Ok(Self { signing, verifying })
    }

    /// The own key and those in these files.
    ///
    /// # Errors
    /// Files that can't be used.
    pub fn verifying(signing: &SigningKey, files: &[PathBuf]) -> Result<VerifyingKeys, SetupError> {
        let mut verifying = VerifyingKeys::new();
        verifying.add(signing.verifying_key())?;
        for path in files {
            let pem = fs::read_to_string(path).map_err(|source| SetupError::Folder {
                action: "read",
                path: path.clone(),
                source,
            })?;
            verifying.add_pem(&pem, &path.display().to_string())?;
        }
        Ok(verifying)
    }
}

/// A token file for an agent on this machine, made when it is missing or no longer valid: its path and the agent's
/// name.
///
/// # Errors
/// When it can't be made.
pub fn local_token(data: &DataDir, keys: &Keys, now_ns: i64) -> Result<(PathBuf, String), SetupError> {
    let name = host_name();
    let path = data.tokens().join(format!("{name}.token"));
    let is_valid = |token: &str| auth::verify(token, &keys.verifying, Audience::Agents, now_ns).is_ok();
    if !fs::read_to_string(&path).is_ok_and(|token| is_valid(&token)) {
        let token = auth::issue(&keys.signing, Audience::Agents, &name, LOCAL_TOKEN_TTL, now_ns)?;
        write_private(&path, &token).map_err(|source| SetupError::Folder {
            action: "write",
            path: path.clone(),
            source,
        })?;
    }
    Ok((path, name))
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("token.new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// This machine's name as a token's subject may have it.
#[must_use]
pub fn host_name() -> String {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = node
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(100)
        .collect();
    if name.chars().any(|c| c.is_ascii_alphanumeric()) {
        name
    } else {
        "localhost".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use edgelogger_common::clock::SystemClock;
    use edgelogger_common::tls::FloorTime;

    use super::*;
    use crate::certificate::Certificate;

    #[test]
    fn the_first_start_makes_everything_and_the_second_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::embedded_in(dir.path().join("data"));
        let data = DataDir::new(&config.data_dir);
        let time = Arc::new(FloorTime::new(Arc::new(SystemClock::new())));
        data.create().unwrap();
        let prepare = || {
            Certificate::prepare(&config, Arc::clone(&time)).unwrap();
            Keys::prepare(&config).unwrap()
        };
        let made = |path: &Path| fs::read_to_string(path).unwrap();
        let first = prepare();
        let (token, name) = local_token(&data, &first, time.now_ns()).unwrap();
        let before = [data.ca(), data.tls().join("server.pem"), token.clone()].map(|path| made(&path));
        let second = prepare();
        local_token(&data, &second, time.now_ns()).unwrap();
        assert_eq!(
            [data.ca(), data.tls().join("server.pem"), token.clone()].map(|path| made(&path)),
            before
        );
        assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
        let claims = auth::verify(&made(&token), &second.verifying, Audience::Agents, time.now_ns()).unwrap();
        assert_eq!(claims.sub, name);
    }

    #[test]
    fn a_folder_of_a_newer_version_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        data.check_version().unwrap();
        data.check_version().unwrap();
        let path = dir.path().join("version");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "edgelogger-collector-data 1\n"
        );
        for newer in ["edgelogger-collector-data 2\n", "", "something else\n"] {
            fs::write(&path, newer).unwrap();
            let error = data.check_version().unwrap_err();
            assert_eq!(error.code().code, "E0407");
            assert!(error.to_string().contains("newer collector"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), newer);
        }
    }

    #[test]
    fn a_folder_belongs_to_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let _lock = data.lock().unwrap();
        let error = data.lock().unwrap_err();
        assert!(matches!(error, SetupError::Locked(_)));
        assert!(
            error.to_string().contains(&dir.path().display().to_string()),
            "{error}"
        );
    }
}
