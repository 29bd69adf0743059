//! Zones and events from CSV, with errors that say where.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use thiserror::Error;
use zonecast_protocol::{Circle, ClientId, Zone};

/// Why a file is no world or no list of events.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InputError {
    /// It cannot be opened or read.
    #[error("{name} cannot be read: {source}")]
    Read {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no CSV.
    #[error("{name}: {source}; expected CSV with a header line")]
    Csv {
        /// The file.
        name: String,
        /// What is wrong, and where.
        source: csv::Error,
    },
    /// A column is missing.
    #[error("{name}, line 1: column {column:?} is missing; expected at least {expected}")]
    Column {
        /// The file.
        name: String,
        /// The missing column.
        column: &'static str,
        /// All that are required.
        expected: String,
    },
    /// A field does not hold what it should.
    #[error("{name}, line {line}, column {column:?}: {value:?} {problem}; expected {expected}")]
    Field {
        /// The file.
        name: String,
        /// The line, from 1, the header being line 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What should stand there.
        expected: &'static str,
    },
}

/// A row of a zone file.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneRow {
    /// The session that holds it, as an index into [`WorldFile::sessions`].
    pub session: usize,
    /// Its rectangle.
    pub zone: Zone,
}

/// A whole zone file: `session,zone,min_x,min_y,max_x,max_y`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorldFile {
    /// The distinct sessions, in the order of their first zones.
    pub sessions: Vec<String>,
    /// All zones.
    pub zones: Vec<ZoneRow>,
}

/// A row of an event file.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// When it happened, milliseconds.
    pub time_ms: f64,
    /// Its name.
    pub id: String,
    /// Its circle.
    pub circle: Circle,
    /// All columns but those of the circle, as a JSON object of texts.
    pub payload: Vec<u8>,
}

/// The rows of one file, with what is needed to say where an error is.
struct Rows<R> {
    name: String,
    reader: csv::Reader<R>,
    header: csv::StringRecord,
    columns: Vec<usize>,
    required: &'static [&'static str],
    row: csv::StringRecord,
}

impl<R: Read> Rows<R> {
    fn new(name: &str, source: R, required: &'static [&'static str]) -> Result<Self, InputError> {
        let name = name.to_owned();
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
        let header = reader.headers().map_err(|error| csv_error(&name, error))?.clone();
        let columns = required.iter().map(|column| {
            header
                .iter()
                .position(|there| there.trim_start_matches('\u{feff}') == *column)
                .ok_or_else(|| InputError::Column { name: name.clone(), column, expected: required.join(",") })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Self { name, reader, header, columns, required, row: csv::StringRecord::new() })
    }

    fn next(&mut self) -> Result<bool, InputError> {
        self.reader.read_record(&mut self.row).map_err(|error| csv_error(&self.name, error))
    }

    fn text(&self, column: usize) -> &str {
        self.row.get(self.columns[column]).unwrap_or("")
    }

    fn error(&self, column: usize, problem: impl ToString, expected: &'static str) -> InputError {
        InputError::Field {
            name: self.name.clone(),
            line: self.row.position().map_or(0, csv::Position::line),
            column: self.required[column],
            value: self.text(column).to_owned(),
            problem: problem.to_string(),
            expected,
        }
    }

    fn number(&self, column: usize) -> Result<f64, InputError> {
        match self.text(column).parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.error(column, "is no finite number", "a number such as 12.5")),
        }
    }

    /// All columns but these, as a JSON object of texts.
    fn others(&self, without: &[usize]) -> Result<Vec<u8>, InputError> {
        let others = self.header.iter().zip(&self.row).enumerate().filter(|(at, _)| !without.contains(at));
        let object: serde_json::Map<_, _> =
            others.map(|(_, (name, value))| (name.to_owned(), value.to_owned().into())).collect();
        serde_json::to_vec(&object)
            .map_err(|error| InputError::Read { name: self.name.clone(), source: io::Error::other(error) })
    }
}

fn csv_error(name: &str, error: csv::Error) -> InputError {
    let name = name.to_owned();
    if error.is_io_error() {
        InputError::Read { name, source: error.into() }
    } else {
        InputError::Csv { name, source: error }
    }
}

fn open(path: &Path) -> Result<File, InputError> {
    File::open(path).map_err(|source| InputError::Read { name: path.display().to_string(), source })
}

impl WorldFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a row is no zone.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Self::read(&path.display().to_string(), open(path)?)
    }

    /// Reads zones; `name` is for error messages.
    ///
    /// # Errors
    /// A row is no zone.
    pub fn read(name: &str, source: impl Read) -> Result<Self, InputError> {
        let mut rows = Rows::new(name, source, &["session", "zone", "min_x", "min_y", "max_x", "max_y"])?;
        let mut world = Self::default();
        let mut known = HashMap::<String, usize>::new();
        while rows.next()? {
            let session = rows.text(0);
            let name_is_usable = ClientId::check(session).is_ok() && session.len() <= SESSION_BYTES_MAX;
            if !name_is_usable {
                return Err(rows.error(0, "names no session", "1 to 48 bytes of A-Z a-z 0-9 _ . -"));
            }
            let next = world.sessions.len();
            let index = *known.entry(session.to_owned()).or_insert(next);
            if index == next {
                world.sessions.push(session.to_owned());
            }
            let [min_x, min_y, max_x, max_y] = [rows.number(2)?, rows.number(3)?, rows.number(4)?, rows.number(5)?];
            let zone = Zone::new(min_x, min_y, max_x, max_y).map_err(|error| {
                let column = if min_x > max_x { 2 } else { 3 };
                rows.error(column, format_args!("makes no rectangle: {error}"), "min <= max")
            })?;
            world.zones.push(ZoneRow { session: index, zone });
        }
        Ok(world)
    }
}

/// Longest session name: what a client id leaves beside a prefix.
const SESSION_BYTES_MAX: usize = 48;

/// An event file, read row by row: `time_ms,id,x,y,radius`, and whatever other columns there are.
///
/// What is not geometry goes along as payload.
pub struct EventFile<R> {
    rows: Rows<R>,
}

impl EventFile<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or lacks a column.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Self::new(&path.display().to_string(), open(path)?)
    }
}

impl<R: Read> EventFile<R> {
    /// Reads events from a source; `name` is for error messages.
    ///
    /// # Errors
    /// A column is missing.
    pub fn new(name: &str, source: R) -> Result<Self, InputError> {
        Ok(Self { rows: Rows::new(name, source, &["time_ms", "id", "x", "y", "radius"])? })
    }

    fn row(&self) -> Result<EventRow, InputError> {
        let rows = &self.rows;
        let [time_ms, x, y, radius] = [rows.number(0)?, rows.number(2)?, rows.number(3)?, rows.number(4)?];
        let circle = Circle::new(x, y, radius)
            .map_err(|error| rows.error(4, format_args!("makes no circle: {error}"), "a radius of 0 or more"))?;
        if rows.text(1).is_empty() {
            return Err(rows.error(1, "is empty", "the event's name"));
        }
        Ok(EventRow { time_ms, id: rows.text(1).to_owned(), circle, payload: rows.others(&rows.columns[2..])? })
    }
}

impl<R: Read> Iterator for EventFile<R> {
    type Item = Result<EventRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(true) => Some(self.row()),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
