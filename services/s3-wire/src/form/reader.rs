//! Takes `multipart/form-data` apart as it arrives, holding at most a field or the beginning of a delimiter.

use super::FIELDS_BYTES_MAX;
use crate::error::{ErrorCode, S3Error};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// Most bytes of the headers of one part.
const PART_HEAD_BYTES_MAX: usize = 4 * 1024;

/// What was found in the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A field, complete.
    Field {
        /// As written.
        name: String,
        /// Its text.
        value: String,
    },
    /// The file begins; the rest of the form is its bytes.
    File {
        /// As the browser names it.
        filename: String,
        /// What the browser takes it for.
        content_type: Option<String>,
    },
    /// Bytes of the file.
    Data(Bytes),
    /// The file is complete. What follows in the form is not looked at, as by AWS.
    End,
}

/// The reader: bytes are pushed in, events come out.
#[derive(Debug)]
pub struct FormReader {
    /// Line end, two hyphens and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    /// Of fields and headers so far.
    fields_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// Before the first delimiter.
    Start,
    /// Behind a delimiter.
    PartHead,
    /// In a field of this name.
    Field(String),
    File,
    Done,
}

fn malformed() -> S3Error {
    ErrorCode::MalformedPOSTRequest.into()
}

impl FormReader {
    /// A form whose parts are divided by `boundary`.
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // So that the first delimiter, which nothing precedes, looks like the others.
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Start,
            fields_bytes: 0,
        }
    }

    /// The shortest that can follow the file: the last delimiter.
    pub fn tail_bytes_min(&self) -> u64 {
        self.delimiter.len() as u64 + 2
    }

    /// Bytes that were pushed and not yet given out.
    pub fn buffered(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, data: &[u8]) {
        if !matches!(self.state, State::Done) {
            self.buffer.extend_from_slice(data);
        }
    }

    /// The next event; `None` where more bytes are needed.
    ///
    /// # Errors
    /// `MalformedPOSTRequest`; `MaxPostPreDataLengthExceededError` beyond [`FIELDS_BYTES_MAX`].
    pub fn next_event(&mut self) -> Result<Option<Event>, S3Error> {
        loop {
            match &mut self.state {
                State::Start => {
                    let delimiter = self.delimiter.len();
                    if self.buffer.len() < delimiter {
                        return Ok(None);
                    }
                    if !self.buffer.starts_with(&self.delimiter) {
                        return Err(malformed());
                    }
                    self.buffer.advance(delimiter);
                    self.state = State::PartHead;
                }
                State::PartHead => match self.part_head()? {
                    None => return Ok(None),
                    Some(Part::End) => return Err(malformed()), // There was no file.
                    Some(Part::Field(name)) => self.state = State::Field(name),
                    Some(Part::File(event)) => {
                        self.state = State::File;
                        return Ok(Some(event));
                    }
                },
                State::Field(name) => {
                    let Some(at) = memmem::find(&self.buffer, &self.delimiter) else {
                        let held = self.fields_bytes + self.buffer.len();
                        return match held > FIELDS_BYTES_MAX + self.delimiter.len() {
                            true => Err(ErrorCode::MaxPostPreDataLengthExceededError.into()),
                            false => Ok(None),
                        };
                    };
                    let name = std::mem::take(name);
                    let value = self.buffer.split_to(at);
                    self.buffer.advance(self.delimiter.len());
                    self.count(at)?;
                    self.state = State::PartHead;
                    let value = String::from_utf8(value.to_vec()).map_err(|_| malformed())?;
                    return Ok(Some(Event::Field { name, value }));
                }
                State::File => return Ok(self.file()),
                State::Done => return Ok(None),
            }
        }
    }

    /// What remains of the form has been pushed: whether the file is complete.
    ///
    /// # Errors
    /// `IncompleteBody`.
    pub fn finish(&self) -> Result<(), S3Error> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(ErrorCode::IncompleteBody.into()),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), S3Error> {
        self.fields_bytes = self.fields_bytes.saturating_add(bytes);
        match self.fields_bytes > FIELDS_BYTES_MAX {
            true => Err(ErrorCode::MaxPostPreDataLengthExceededError.into()),
            false => Ok(()),
        }
    }

    fn file(&mut self) -> Option<Event> {
        if let Some(at) = memmem::find(&self.buffer, &self.delimiter) {
            if at > 0 {
                return Some(Event::Data(self.buffer.split_to(at).freeze()));
            }
            self.buffer.clear();
            self.state = State::Done;
            return Some(Event::End);
        }
        // The last bytes may be the beginning of the delimiter.
        let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
        (sure > 0).then(|| Event::Data(self.buffer.split_to(sure).freeze()))
    }

    /// The headers of a part.
    fn part_head(&mut self) -> Result<Option<Part>, S3Error> {
        match self.buffer.get(..2) {
            None => return Ok(None),
            Some(b"--") => return Ok(Some(Part::End)),
            Some(b"\r\n") => {}
            Some(_) => return Err(malformed()),
        }
        let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            return match self.buffer.len() > PART_HEAD_BYTES_MAX {
                true => Err(malformed()),
                false => Ok(None),
            };
        };
        if end > PART_HEAD_BYTES_MAX {
            return Err(malformed());
        }
        let head = self.buffer.split_to(end);
        self.buffer.advance(4);
        self.count(end)?;
        let head = std::str::from_utf8(&head).map_err(|_| malformed())?;
        Part::parse(head).map(Some)
    }
}

enum Part {
    Field(String),
    File(Event),
    End,
}

impl Part {
    fn parse(head: &str) -> Result<Self, S3Error> {
        let (mut name, mut filename, mut content_type) = (None, None, None);
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let (header, value) = line.split_once(':').ok_or_else(malformed)?;
            if header.eq_ignore_ascii_case("content-disposition") {
                (name, filename) = disposition(value)?;
            } else if header.eq_ignore_ascii_case("content-type") {
                content_type = Some(value.trim().to_owned());
            }
        }
        let name = name.ok_or_else(malformed)?;
        Ok(if name.eq_ignore_ascii_case("file") {
            Self::File(Event::File {
                filename: filename.unwrap_or_default(),
                content_type,
            })
        } else {
            Self::Field(name)
        })
    }
}

/// `form-data; name="…"; filename="…"`. Browsers write `"` as `%22` and line ends likewise (the HTML standard), some clients as `\"`.
fn disposition(value: &str) -> Result<(Option<String>, Option<String>), S3Error> {
    let (kind, mut rest) = value.split_once(';').ok_or_else(malformed)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(malformed());
    }
    let (mut name, mut filename) = (None, None);
    while !rest.trim().is_empty() {
        let (parameter, after) = rest.split_once('=').ok_or_else(malformed)?;
        let (text, behind) = parameter_value(after)?;
        let slot = match parameter.trim().to_ascii_lowercase().as_str() {
            "name" => &mut name,
            "filename" => &mut filename,
            _ => &mut None,
        };
        *slot = Some(text);
        rest = behind;
    }
    Ok((name, filename))
}

/// A quoted or plain value, and what follows its semicolon.
fn parameter_value(text: &str) -> Result<(String, &str), S3Error> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return Ok((value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                let rest = rest.trim_start();
                let rest = rest.strip_prefix(';').unwrap_or(rest);
                return Ok((value.replace("%22", "\""), rest));
            }
            // Of the two characters that may be quoted so; a Windows path keeps its backslashes.
            '\\' if quoted
                .get(at + 1..)
                .is_some_and(|next| next.starts_with('"')) =>
            {
                characters.next();
                value.push('"');
            }
            other => value.push(other),
        }
    }
    Err(malformed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    const FORM: &[u8] = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/b\r\n--B\r\n\
        Content-Type: text/plain\r\ncontent-disposition: form-data; name=policy\r\n\r\n\r\n--B\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"x \\\"%22.txt\"\r\nContent-Type: text/x\r\n\r\n\
        one\r\n--A\r\n-two\r\n--B\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--B--\r\n";

    /// All events of a form that comes in pieces, with neighbouring data joined.
    fn events(form: &[u8], piece: usize) -> Result<Vec<Event>, S3Error> {
        let mut reader = FormReader::new("B");
        let (mut events, mut data) = (Vec::new(), Vec::new());
        for piece in form.chunks(piece) {
            reader.push(piece);
            while let Some(event) = reader.next_event()? {
                match event {
                    Event::Data(bytes) => data.extend_from_slice(&bytes),
                    Event::End => events.push(Event::Data(std::mem::take(&mut data).into())),
                    other => events.push(other),
                }
            }
        }
        reader.finish()?;
        Ok(events)
    }

    #[test]
    fn a_form_is_the_same_in_pieces_of_every_size() {
        let field = |name: &str, value: &str| Event::Field {
            name: name.into(),
            value: value.into(),
        };
        let expected = [
            field("key", "a/b"),
            field("policy", ""),
            Event::File {
                filename: "x \"\".txt".into(),
                content_type: Some("text/x".into()),
            },
            Event::Data(Bytes::from_static(b"one\r\n--A\r\n-two")),
        ];
        for piece in 1..FORM.len() + 1 {
            assert_eq!(events(FORM, piece).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let code = |form: &[u8]| events(form, 7).unwrap_err().code;
        assert_eq!(
            code(b"hello, this is no form"),
            ErrorCode::MalformedPOSTRequest
        );
        assert_eq!(code(b"--B--\r\n"), ErrorCode::MalformedPOSTRequest);
        assert_eq!(
            code(b"--B\r\nContent-Disposition: form-data\r\n\r\nx"),
            ErrorCode::MalformedPOSTRequest
        );
        assert_eq!(
            code(b"--B\r\nContent-Disposition: form-data; name=\"k\r\n\r\nx"),
            ErrorCode::MalformedPOSTRequest
        );
        assert_eq!(
            code(b"--B\r\nX: y\r\n\r\nx\r\n--B--"),
            ErrorCode::MalformedPOSTRequest
        );
        let cut = FORM.len() - 80;
        assert_eq!(code(FORM.get(..cut).unwrap()), ErrorCode::IncompleteBody);
        let head = b"--B\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n";
        let long = [&head[..], &vec![b'x'; FIELDS_BYTES_MAX + 100]].concat();
        assert_eq!(code(&long), ErrorCode::MaxPostPreDataLengthExceededError);
        let endless = [&b"--B\r\n"[..], &vec![b'x'; PART_HEAD_BYTES_MAX + 100]].concat();
        assert_eq!(code(&endless), ErrorCode::MalformedPOSTRequest);
    }

    proptest! {
        #[test]
        fn any_file_comes_out_as_it_went_in(file in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..300), piece in 1usize..80) {
            prop_assume!(memmem::find(&file, b"\r\n--B").is_none());
            let mut form = b"--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n".to_vec();
            form.extend_from_slice(&file);
            form.extend_from_slice(b"\r\n--B--");
            let found = events(&form, piece).unwrap();
            prop_assert_eq!(found.last().unwrap(), &Event::Data(file.into()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            let _ = events(&bytes, piece);
            let _ = events(&[&b"--B\r\nContent-Disposition: "[..], &bytes].concat(), piece);
        }
    }
}
