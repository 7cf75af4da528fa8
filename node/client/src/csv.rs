//! One line of a file of comma separated values (RFC 4180), but for line ends within quotes: no field here has any.

/// The fields of a line, unquoted.
pub type Row = Vec<String>;

/// What is wrong with the quotes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It ends within quotes.
    #[error("a quoted field does not end on this line; a quote within it is written twice")]
    Open,
    /// A quote in a field that is not quoted.
    #[error(
        "there is a quote within a field that does not begin with one: quote the whole field, and write the quote twice"
    )]
    Stray,
    /// Something between the end of a quoted field and the comma.
    #[error(
        "something stands behind the quote that ends a field; a quote within it is written twice"
    )]
    Behind,
}

/// Splits a line without its end.
///
/// # Errors
/// [`RowError`].
pub fn row(line: &str) -> Result<Row, RowError> {
    let mut out = Row::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(RowError::Stray);
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        out.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(out),
            None => return Err(RowError::Behind),
        }
    }
}

/// A field whose opening quote was read, and what stands behind its closing one.
fn unquote(quoted: &str) -> Result<(String, &str), RowError> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or(RowError::Open)?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
}

/// A field as it is written: quoted where it must be.
pub fn field(text: &str) -> String {
    if text.contains(['"', ',']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}
