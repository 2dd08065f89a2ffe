//! Writing files so that a crash leaves the old one or the new one, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Makes a file that is created with these options readable by its owner alone.
pub(super) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

/// Writes a file that is not there yet. Fails with `AlreadyExists` when it is, and leaves it as it was.
pub(super) fn write_new(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(dir, name, content)?;
    let target = dir.join(name);
    // A hard link never replaces a file, while a rename does.
    let linked = match fs::hard_link(&temporary, &target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // The file system knows no hard links (FAT). The directory is locked, so nobody of ours comes between.
            if target.try_exists()? {
                Err(io::ErrorKind::AlreadyExists.into())
            } else {
                fs::rename(&temporary, &target)
            }
        }
        other => other,
    };
    // After a rename it is gone already.
    let _ = fs::remove_file(&temporary);
    linked.and_then(|()| sync_dir(dir))
}

/// Writes a file, replacing the one of that name.
pub(super) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(dir, name, content)?;
    fs::rename(temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Gives a file a name that no file has: its own with `.bad-1`, `.bad-2` and so on.
pub(super) fn set_aside(dir: &Path, name: &str) -> io::Result<PathBuf> {
    set_aside_with(dir, name, &[])
}

/// Like [`set_aside`], together with the files whose names are the same but for one of these endings.
pub(super) fn set_aside_with(dir: &Path, name: &str, endings: &[&str]) -> io::Result<PathBuf> {
    for number in 1..10_000 {
        let aside = format!("{name}.bad-{number}");
        if !dir.join(&aside).try_exists()? {
            // They go first: one that stayed behind would be taken for that of the next file of the name.
            for ending in endings {
                match fs::rename(dir.join(format!("{name}{ending}")), dir.join(format!("{aside}{ending}"))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            let aside = dir.join(aside);
            fs::rename(dir.join(name), &aside)?;
            sync_dir(dir)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Takes away what a crash has left of the writing of a file; the directory is locked, so nobody is writing it now.
pub(super) fn sweep(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(format!("{name}.tmp"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_temporary(dir: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(format!("{name}.tmp"));
    sweep(dir, name)?;
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    private(&mut options);
    let mut file = options.open(&path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
    written.map(|()| path)
}

/// A new name lasts when the directory that holds it has been written.
fn sync_dir(dir: &Path) -> io::Result<()> {
    // Windows cannot open a directory as a file.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_overwritten_but_what_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::write(path.join("a.tmp"), "left by a crash").unwrap();
        write_new(path, "a", b"1").unwrap();
        assert_eq!(write_new(path, "a", b"2").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path.join("a")).unwrap(), b"1");
        replace(path, "a", b"3").unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"3");
        assert_eq!(set_aside(path, "a").unwrap(), path.join("a.bad-1"));
        write_new(path, "a", b"4").unwrap();
        assert_eq!(set_aside(path, "a").unwrap(), path.join("a.bad-2"));
        fs::write(path.join("a"), "5").unwrap();
        fs::write(path.join("a-x"), "6").unwrap();
        assert_eq!(set_aside_with(path, "a", &["-x", "-y"]).unwrap(), path.join("a.bad-3"));
        assert_eq!(names(path), ["a.bad-1", "a.bad-2", "a.bad-3", "a.bad-3-x"]);
    }
}
