//! Files that a command line names: regular ones, and pipes, as a shell gives `<(…)`.
//!
//! **Invariant:** no read waits for ever. A pipe must have a writer soon, and the writer must go
//! on.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Another program opens its end of the pipe as soon as this one is open.
const BEGIN: Duration = Duration::from_secs(5);
/// A program that searches a large log may find nothing for a while.
const SILENT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(2);

/// A file that is read from its beginning to its end.
pub(crate) struct Stream {
    file: File,
    /// `None` for a regular file.
    pipe: Option<Pipe>,
}

struct Pipe {
    begin: Duration,
    silent: Duration,
    has_begun: bool,
}

impl Stream {
    /// The error of a folder, a socket or a device is [`ErrorKind::InvalidInput`].
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::within(path, BEGIN, SILENT)
    }

    fn within(path: &Path, begin: Duration, silent: Duration) -> io::Result<Self> {
        if !std::fs::metadata(path)?.file_type().is_fifo() {
            return Ok(Self { file: super::open(path)?, pipe: None });
        }
        let no_wait = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
        // It may be another file by now.
        if !file.metadata()?.file_type().is_fifo() {
            return Err(ErrorKind::InvalidInput.into());
        }
        Ok(Self { file, pipe: Some(Pipe { begin, silent, has_begun: false }) })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return self.file.read(buffer) };
        let started = Instant::now();
        loop {
            let (limit, problem) = match self.file.read(buffer) {
                // Without a writer, a pipe seems to be at its end.
                Ok(0) if !pipe.has_begun => (pipe.begin, "nobody writes into this pipe"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (pipe.silent, "the program that writes into this pipe has stopped writing")
                }
                read => {
                    pipe.has_begun |= read.is_ok();
                    return read;
                }
            };
            if started.elapsed() >= limit {
                let message = format!("{problem}: there was no data for {} s", limit.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_pipe_is_read_to_its_end_and_never_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        let open = |silent| Stream::within(&pipe, Duration::from_millis(20), silent).unwrap();
        let text = |mut stream: Stream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
        };
        let alone = text(open(Duration::from_secs(9))).unwrap_err();
        assert!(alone.starts_with("nobody writes into this pipe"), "{alone}");

        let reader = open(Duration::from_secs(9));
        let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(b"one").unwrap();
            thread::yield_now();
            writer.write_all(b" two").unwrap();
        });
        assert_eq!(text(reader).unwrap(), "one two");
        writing.join().unwrap();

        let reader = open(Duration::from_millis(20));
        let _silent = OpenOptions::new().write(true).open(&pipe).unwrap();
        assert!(text(reader).unwrap_err().contains("has stopped writing"));
    }

    #[test]
    fn other_files_are_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [folder.path(), &socket, Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = Stream::open(path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let mut text = String::new();
        Stream::open(&file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
