//! Lines into a file, sorted, however many they are.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

/// Bytes of lines sorted in memory before they are set aside in a temporary file.
const RUN_BYTES: usize = 32 << 20;

/// Takes lines in any order and writes them to a file sorted bytewise, as `LC_ALL=C sort` would.
///
/// An external merge sort (Knuth, The Art of Computer Programming 3, 5.4): memory holds one run of 32 MiB.
#[derive(Debug)]
pub struct SortedLines {
    path: PathBuf,
    out: File,
    run: Vec<Box<[u8]>>,
    run_bytes: usize,
    set_aside: Vec<File>,
    run_bytes_max: usize,
}

impl SortedLines {
    /// Creates or empties the file at once, so that a path that cannot be written is found before the work begins.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let out = File::create(path)?;
        let (run, set_aside) = (Vec::new(), Vec::new());
        Ok(Self { path: path.to_owned(), out, run, run_bytes: 0, set_aside, run_bytes_max: RUN_BYTES })
    }

    /// Takes a line, without its end.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.run_bytes += line.len() + size_of::<Box<[u8]>>();
        self.run.push(line.into());
        if self.run_bytes >= self.run_bytes_max {
            self.set_aside()?;
        }
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        // Beside the result: that is where there must be room for so much data.
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut writer = BufWriter::new(tempfile::tempfile_in(directory.unwrap_or(Path::new(".")))?);
        for line in self.run.drain(..) {
            write_line(&mut writer, &line)?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.set_aside.push(file);
        self.run_bytes = 0;
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It, or a temporary file, cannot be written or read.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.set_aside.is_empty() {
            self.set_aside()?;
        }
        self.run.sort_unstable();
        let mut out = BufWriter::new(self.out);
        for line in &self.run {
            write_line(&mut out, line)?;
        }
        let mut runs: Vec<_> = self.set_aside.into_iter().map(|file| BufReader::new(file).split(b'\n')).collect();
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            if let Some(line) = run.next() {
                heads.push(Reverse((line?, number)));
            }
        }
        while let Some(Reverse((line, number))) = heads.pop() {
            write_line(&mut out, &line)?;
            if let Some(next) = runs[number].next() {
                heads.push(Reverse((next?, number)));
            }
        }
        out.flush()
    }
}

fn write_line(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_runs_merge_into_one_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let mut lines = SortedLines::create(&path).unwrap();
        lines.run_bytes_max = 200;
        let mut expected: Vec<String> = (0..500_u32).map(|n| format!("{},x", n.wrapping_mul(2_654_435_761))).collect();
        for line in &expected {
            lines.push(line.as_bytes()).unwrap();
        }
        assert!(lines.set_aside.len() > 10);
        lines.finish().unwrap();
        expected.sort_unstable();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.join("\n") + "\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_found_at_once() {
        assert!(SortedLines::create(Path::new("/no/such/directory/file")).is_err());
    }
}
