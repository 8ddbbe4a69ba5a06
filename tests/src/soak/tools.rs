//! What needs more than this process: file systems of our own, and a library that is preloaded into a program.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::row::{Outcome, Stop, ensure, skip};
use crate::stack::Launch;

/// Size of an image: room for a log and a store of a turn.
const IMAGE_BYTES: u64 = 192 << 20;
const SHIM_SOURCE: &str = include_str!("../../shim/shim.c");

/// Runs a command to its end.
///
/// # Errors
/// Skipped where it is not there, failed where it fails.
pub fn run(command: &[&str]) -> Outcome {
    let output = match Command::new(command[0]).args(&command[1..]).output() {
        Ok(output) => output,
        Err(error) => return skip(format!("{} can't be run: {error}", command[0])),
    };
    ensure(output.status.success(), || {
        format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Skips where only root can go on.
///
/// # Errors
/// Skipped.
pub fn need_root() -> Outcome {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        skip("needs root")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of a test are text")
}

/// A file system of its own, as long as this lives.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub path: PathBuf,
    image: Option<PathBuf>,
}

impl Mounted {
    /// An ext4 on an image beside its mount point. It writes nothing out by itself for ten minutes, so that what was
    /// not synced is lost in a power cut.
    ///
    /// # Errors
    /// Skipped where that can't be done here.
    pub fn ext4(path: &Path) -> Result<Self, Stop> {
        need_root()?;
        let image = path.with_extension("ext4");
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        run(&["mkfs.ext4", "-q", "-F", "-m", "0", text(&image)])?;
        std::fs::create_dir_all(path)?;
        let mounted = Self {
            path: path.to_owned(),
            image: Some(image),
        };
        mounted.mount().or_else(|stop| match stop {
            Stop::Failed(why) => skip(format!("no loop device: {why}")),
            skipped @ Stop::Skipped(_) => Err(skipped),
        })?;
        Ok(mounted)
    }

    /// A tmpfs of this size.
    ///
    /// # Errors
    /// Skipped where that can't be done here.
    pub fn tmpfs(path: &Path, size: &str) -> Result<Self, Stop> {
        need_root()?;
        std::fs::create_dir_all(path)?;
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size}"),
            "tmpfs",
            text(path),
        ])?;
        Ok(Self {
            path: path.to_owned(),
            image: None,
        })
    }

    fn mount(&self) -> Outcome {
        let image = self.image.as_deref().expect("only an image is mounted again");
        run(&[
            "mount",
            "-o",
            "loop,commit=600,errors=remount-ro",
            text(image),
            text(&self.path),
        ])
    }

    /// What the disk holds now, as a power cut would leave it. Nothing may write to it meanwhile.
    ///
    /// # Errors
    /// When it can't be copied.
    pub fn snapshot(&self) -> Outcome {
        let image = self.image.as_deref().expect("only an image is copied");
        run(&[
            "cp",
            "--sparse=always",
            text(image),
            text(&image.with_extension("copy")),
        ])
    }

    /// The power comes back: what the snapshot held is what is there. The programs on it must have ended.
    ///
    /// # Errors
    /// When it can't be mounted.
    pub fn restore(&self) -> Outcome {
        let image = self.image.as_deref().expect("only an image is copied");
        run(&["umount", text(&self.path)])?;
        std::fs::rename(image.with_extension("copy"), image)?;
        self.mount()
    }

    /// The file system finds an error in itself and turns read-only, as it does when a disk breaks.
    ///
    /// # Errors
    /// Skipped where this kernel has no switch for it.
    pub fn break_it(&self) -> Outcome {
        let source = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE"])
            .arg(&self.path)
            .output()?;
        let source = String::from_utf8_lossy(&source.stdout).trim().to_owned();
        let device = source.rsplit('/').next().unwrap_or_default();
        let switch = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        match std::fs::write(&switch, "soak") {
            Ok(()) => Ok(()),
            Err(error) => skip(format!("{switch}: {error}")),
        }
    }

    /// Checked and mounted again. The programs on it must have ended.
    ///
    /// # Errors
    /// When it can't be.
    pub fn repair(&self) -> Outcome {
        let image = self.image.as_deref().expect("only an image is repaired");
        run(&["umount", text(&self.path)])?;
        // It exits with 1 when it repaired something.
        let _ = Command::new("e2fsck").args(["-p", "-f"]).arg(image).output();
        self.mount()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// What syncs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// What they should.
    Works,
    /// They say so, and do nothing.
    DoesNothing,
    /// The one after so many fails.
    FailsOnce(i64),
    /// All fail after so many.
    Fails(i64),
}

/// The preloaded library of one program, and its switches.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    switches: PathBuf,
    file: File,
}

impl Shim {
    /// Compiled into this folder.
    ///
    /// # Errors
    /// Skipped where there is no C compiler.
    pub fn new(dir: &Path, name: &str) -> Result<Self, Stop> {
        let source = dir.join(format!("{name}.c"));
        let library = dir.join(format!("{name}.so"));
        let switches = dir.join(format!("{name}.switches"));
        std::fs::write(&source, SHIM_SOURCE)?;
        run(&[
            "cc",
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            text(&library),
            text(&source),
        ])?;
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&switches)?;
        file.write_all_at(&[0; 7 * 8], 0)?;
        Ok(Self {
            library,
            switches,
            file,
        })
    }

    /// How the program is started.
    #[must_use]
    pub fn launch(&self) -> Launch {
        let variable = |name: &str, value: &Path| (name.to_owned(), text(value).to_owned());
        Launch {
            prefix: Vec::new(),
            environment: vec![
                variable("LD_PRELOAD", &self.library),
                variable("EDGELOGGER_SHIM", &self.switches),
            ],
        }
    }

    fn set(&self, index: u64, value: i64) {
        self.file
            .write_all_at(&value.to_le_bytes(), index * 8)
            .expect("a file of 56 bytes can be written");
    }

    fn get(&self, index: u64) -> i64 {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, index * 8)
            .expect("a file of 56 bytes can be read");
        i64::from_le_bytes(bytes)
    }

    /// From now on.
    pub fn sync(&self, sync: Sync) {
        let (mode, before) = match sync {
            Sync::Works => (0, 0),
            Sync::DoesNothing => (1, 0),
            Sync::FailsOnce(before) => (2, before),
            Sync::Fails(before) => (3, before),
        };
        self.set(1, before);
        self.set(0, mode);
    }

    /// Each sync and each read takes so much longer.
    pub fn slow(&self, sync_ms: i64, read_ms: i64) {
        self.set(2, sync_ms);
        self.set(3, read_ms);
    }

    /// The wall clock is ahead by this.
    pub fn clock_ahead(&self, ns: i64) {
        self.set(4, ns);
    }

    /// Syncs that were asked for.
    #[must_use]
    pub fn syncs(&self) -> i64 {
        self.get(5)
    }

    /// Syncs that failed.
    #[must_use]
    pub fn failed(&self) -> i64 {
        self.get(6)
    }
}
