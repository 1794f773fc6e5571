//! The invitation that a person carries from a node that belongs to one that shall: one word of text.
//!
//! The word is base64url (RFC 4648, 5) without padding of: the version (1), the cluster, the secret, the inviting node's key, its mesh address as
//! text, and the first four bytes of the BLAKE3 hash of all that, by which a word that was cut off or mistyped is told from a wrong one.

use crate::cluster::{ClusterId, NodeKey, address_of};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The form of the bytes.
const VERSION: u8 = 1;
/// Of the hash at the end, so many bytes.
const CHECKSUM_BYTES: usize = 4;
/// The longest word, in bytes.
pub const TOKEN_BYTES_MAX: usize = 256;

/// An invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// To which cluster.
    pub cluster: ClusterId,
    /// What the cluster knows the hash of. Whoever has it may join, once.
    pub secret: [u8; 32],
    /// Which node gave it, and is to be asked.
    pub key: NodeKey,
    /// Where that node's bus answers other buses.
    pub mesh: SocketAddr,
}

/// Why a word is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not what `trousseau invite` printed.
    Damaged,
    /// Of a program of another version.
    Version(u8),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => write!(
                f,
                "this is not a whole token: copy the whole word that `trousseau invite` printed"
            ),
            Self::Version(version) => write!(
                f,
                "the token is of the form {version}, this program knows the form {VERSION}: run the same version on both nodes"
            ),
        }
    }
}

impl std::error::Error for TokenError {}

impl fmt::Debug for Token {
    // A secret does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Token({} by {} at {})",
            self.cluster, self.key, self.mesh
        )
    }
}

impl Token {
    /// What the cluster keeps of the secret.
    pub fn secret_hash(secret: &[u8; 32]) -> [u8; 32] {
        *blake3::hash(secret).as_bytes()
    }

    /// The word.
    pub fn to_text(&self) -> String {
        let mesh = self.mesh.to_string();
        let parts: [&[u8]; 5] = [
            &[VERSION],
            &self.cluster.0,
            &self.secret,
            &self.key.0,
            mesh.as_bytes(),
        ];
        let mut bytes = parts.concat();
        bytes.extend_from_slice(&checksum(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.ok_or(TokenError::Damaged)?;
        let split = bytes.split_last_chunk::<CHECKSUM_BYTES>();
        let (body, found) = split.ok_or(TokenError::Damaged)?;
        if checksum(body) != *found {
            return Err(TokenError::Damaged);
        }
        let (version, rest) = body.split_first().ok_or(TokenError::Damaged)?;
        if *version != VERSION {
            return Err(TokenError::Version(*version));
        }
        let parse = || {
            let (cluster, rest) = rest.split_first_chunk()?;
            let (secret, rest) = rest.split_first_chunk()?;
            let (key, mesh) = rest.split_first_chunk()?;
            let text = std::str::from_utf8(mesh).ok()?;
            // Each token has one text.
            let mesh = address_of(text).filter(|mesh| mesh.to_string() == text)?;
            Some(Self {
                cluster: ClusterId(*cluster),
                secret: *secret,
                key: NodeKey(*key),
                mesh,
            })
        };
        parse().ok_or(TokenError::Damaged)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    let first = hash.as_bytes().first_chunk();
    first.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token {
            cluster: ClusterId([1; 16]),
            secret: [2; 32],
            key: NodeKey([3; 32]),
            mesh: "192.168.1.20:3901".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_is_one_word_and_comes_back_as_it_went() {
        for mesh in ["192.168.1.20:3901", "[2001:db8::1]:65535"] {
            let token = Token {
                mesh: mesh.parse().unwrap(),
                ..token()
            };
            let text = token.to_text();
            assert!(
                text.len() <= TOKEN_BYTES_MAX && !text.starts_with('-'),
                "{text}"
            );
            assert!(
                text.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            assert_eq!(text.parse(), Ok(token));
        }
    }

    #[test]
    fn a_token_of_another_form_is_told_from_a_damaged_one() {
        let mut bytes = URL_SAFE_NO_PAD.decode(token().to_text()).unwrap();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        *bytes.first_mut().unwrap() = 9;
        bytes.extend_from_slice(&checksum(&bytes));
        let text = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(text.parse::<Token>(), Err(TokenError::Version(9)));
        assert_eq!("".parse::<Token>(), Err(TokenError::Damaged));
    }

    #[test]
    fn a_log_never_has_the_secret() {
        let text = format!("{:?}", token());
        assert!(!text.contains("0202") && !text.contains("2, 2"), "{text}");
    }

    proptest! {
        #[test]
        fn a_token_with_one_wrong_letter_or_a_missing_end_is_refused(at: prop::sample::Index, letter in "[A-Za-z0-9_-]") {
            let text = token().to_text();
            let at = at.index(text.len());
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &letter);
            if wrong != text {
                prop_assert_eq!(wrong.parse::<Token>(), Err(TokenError::Damaged));
            }
            prop_assert_eq!(text[..at].parse::<Token>(), Err(TokenError::Damaged));
        }

        #[test]
        fn any_text_is_a_token_that_prints_the_same_or_none(text in "\\PC{0,300}") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_text(), text);
            }
        }
    }
}
