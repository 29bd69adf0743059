//! Why a peer's request is not carried out.

use std::fmt;

use crate::wire::ErrorCode;

/// A typed no: a code for programs and a sentence that names the field and the remedy for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code and sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", code_label(self.code), self.message)
    }
}

impl std::error::Error for Refusal {}

/// The code's name without its `ERROR_CODE_` prefix, for logs and metric labels.
#[must_use]
pub fn code_label(code: ErrorCode) -> &'static str {
    let name = code.as_str_name();
    name.strip_prefix("ERROR_CODE_").unwrap_or(name)
}
