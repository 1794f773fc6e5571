//! A bounded reader of XML for documents whose shape is known: no document types, no entities but
//! the five, no surprises.

use crate::error::{ErrorCode, S3Error};
use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest nesting; real requests have four levels.
const DEPTH_MAX: usize = 8;
/// Most bytes of one text: a key of 1024 bytes fits four times.
const TEXT_BYTES_MAX: usize = 4096;
/// Most bytes of the attributes of one element; only `xmlns` is ever there.
const ATTRIBUTES_BYTES_MAX: usize = 1024;

/// What comes next in a document.
enum Token {
    Open(String),
    Text(String),
    Close,
    End,
}

/// Reads a document from front to back.
pub(crate) struct Pull<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
}

/// The one error of all of this.
pub(crate) fn malformed() -> S3Error {
    ErrorCode::MalformedXML.into()
}

impl<'a> Pull<'a> {
    /// Begins, and reads the root element, which must be called `root`.
    pub(crate) fn begin(body: &'a [u8], root: &str) -> Result<Pull<'a>, S3Error> {
        let text = std::str::from_utf8(body).map_err(|_| malformed())?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text); // a byte order mark says nothing in UTF-8
        // XML has no way to write this character back, not even as a reference (XML 1.0, 2.2).
        if text.contains('\0') {
            return Err(malformed());
        }
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.enable_all_checks(true);
        config.expand_empty_elements = true;
        let mut pull = Pull { reader, depth: 0 };
        match pull.significant()? {
            Token::Open(name) if name == root => Ok(pull),
            _ => Err(malformed()),
        }
    }

    /// Calls `each` with the name of every child of the open element; `each` must consume the child
    /// by [`Pull::text`] or by `children`. Returns behind the element's end.
    pub(crate) fn children(
        &mut self,
        mut each: impl FnMut(&mut Pull<'a>, &str) -> Result<(), S3Error>,
    ) -> Result<(), S3Error> {
        loop {
            match self.significant()? {
                Token::Open(name) => each(self, &name)?,
                Token::Close => return Ok(()),
                Token::Text(_) | Token::End => return Err(malformed()),
            }
        }
    }

    /// The text of the open element, which must have no children. Returns behind the element's end.
    pub(crate) fn text(&mut self) -> Result<String, S3Error> {
        let mut all = String::new();
        loop {
            match self.token()? {
                Token::Text(text) if all.is_empty() => all = text,
                Token::Text(text) => all.push_str(&text),
                Token::Close => return Ok(all),
                Token::Open(_) | Token::End => return Err(malformed()),
            }
            if all.len() > TEXT_BYTES_MAX {
                return Err(malformed());
            }
        }
    }

    /// Checks that nothing follows the root element.
    pub(crate) fn finish(mut self) -> Result<(), S3Error> {
        match self.significant()? {
            Token::End if self.depth == 0 => Ok(()),
            _ => Err(malformed()),
        }
    }

    /// The next token that is not mere white space.
    fn significant(&mut self) -> Result<Token, S3Error> {
        loop {
            match self.token()? {
                Token::Text(text) if text.trim_ascii().is_empty() => {}
                token => return Ok(token),
            }
        }
    }

    fn token(&mut self) -> Result<Token, S3Error> {
        loop {
            let event = self.reader.read_event().map_err(|_| malformed())?;
            return match event {
                Event::Start(start) => {
                    let raw = start.attributes_raw();
                    let bad = raw.len() > ATTRIBUTES_BYTES_MAX
                        || start.attributes().any(|attribute| attribute.is_err());
                    self.depth += 1;
                    if bad || self.depth > DEPTH_MAX {
                        return Err(malformed());
                    }
                    // Whatever prefix the namespace has, the name is the same.
                    Ok(Token::Open(start.local_name().as_ref().to_owned()))
                }
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or_else(malformed)?;
                    Ok(Token::Close)
                }
                Event::Text(text) => Ok(Token::Text(text.xml10_content().into_owned())),
                Event::CData(text) => Ok(Token::Text(text.xml10_content().into_owned())),
                Event::GeneralRef(reference) => {
                    if reference.is_char_ref() {
                        let character = reference.resolve_char_ref().map_err(|_| malformed())?;
                        return Ok(Token::Text(character.ok_or_else(malformed)?.to_string()));
                    }
                    let name = reference.xml10_content();
                    let text =
                        quick_xml::escape::resolve_xml_entity(&name).ok_or_else(malformed)?;
                    Ok(Token::Text(text.to_owned()))
                }
                Event::Decl(declaration) => {
                    let utf8 = match declaration.encoding() {
                        None => true,
                        Some(Ok(name)) => {
                            name.eq_ignore_ascii_case("utf-8")
                                || name.eq_ignore_ascii_case("us-ascii")
                        }
                        Some(Err(_)) => false,
                    };
                    if !utf8 || self.depth > 0 {
                        return Err(malformed());
                    }
                    continue;
                }
                Event::Comment(_) => continue,
                Event::Eof => Ok(Token::End),
                // A document type could define entities, and nobody has a use for processing
                // instructions.
                Event::Empty(_) | Event::PI(_) | Event::DocType(_) => Err(malformed()),
            };
        }
    }
}
