//! Whose key opens the door, and in which role; and the key by which the node proves that it is itself.
//!
//! A line for each key, as OpenSSH writes a public key, with the role in front: `admin ssh-ed25519 AAAA… somebody@laptop`. Empty lines and lines
//! that begin with `#` are skipped. A key without a role is known and opens nothing.

use protocol::verbs::Role;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

/// The longest file of keys, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 64 * 1024;
/// The most keys.
const KEYS_MAX: usize = 256;
/// The shortest RSA modulus, in bits, as of OpenSSH 9 on (`RequiredRSASize`, there 1024; NIST SP 800-57 says 2048).
const RSA_BITS_MIN: u32 = 2_048;

/// All authorised keys.
#[derive(Debug, Default)]
pub(crate) struct Authority {
    keys: Vec<(KeyData, Option<Role>)>,
}

/// What a key is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In no line.
    Unknown,
    /// In a line without a role.
    NoRole,
    /// Authorised.
    Has(Role),
}

impl Authority {
    /// Reads the lines. What is wrong with a line is told with its number and does no harm to the others.
    pub(crate) fn read(text: &str) -> (Self, Vec<String>) {
        let (mut authority, mut mistakes) = (Self::default(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if authority.keys.len() == KEYS_MAX {
                mistakes.push(format!("line {}: more than {KEYS_MAX} keys", number + 1));
                break;
            }
            match key_of(line) {
                Ok(key) => authority.keys.push(key),
                Err(why) => mistakes.push(format!("line {}: {why}", number + 1)),
            }
        }
        (authority, mistakes)
    }

    /// How many keys open the door.
    pub(crate) fn len(&self) -> usize {
        let with_role = self.keys.iter().filter(|(_, role)| role.is_some());
        with_role.count()
    }

    /// What `key` is here. A key in several lines has the most that one of them says.
    pub(crate) fn standing(&self, key: &PublicKey) -> Standing {
        let lines = self
            .keys
            .iter()
            .filter(|(known, _)| known == key.key_data());
        match lines.map(|(_, role)| *role).max() {
            None => Standing::Unknown,
            Some(None) => Standing::NoRole,
            Some(Some(role)) => Standing::Has(role),
        }
    }
}

fn key_of(line: &str) -> Result<(KeyData, Option<Role>), String> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (role, key) = match Role::named(first) {
        Some(role) => (Some(role), rest.trim_start()),
        None => (None, line),
    };
    let key = PublicKey::from_openssh(key).map_err(|error| {
        format!("{error}; expected ROLE KEYTYPE BASE64 [COMMENT] with the role inspect or admin")
    })?;
    if !is_accepted(&key) {
        let kind = key.algorithm();
        return Err(format!(
            "keys of the kind {kind} are not accepted, only ed25519, ecdsa, and rsa of {RSA_BITS_MIN} bits or more"
        ));
    }
    Ok((key.key_data().clone(), role))
}

/// Whether the key is of a kind that proves something today.
fn is_accepted(key: &PublicKey) -> bool {
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => true,
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => true,
        KeyData::Rsa(rsa) => rsa.key_size() >= RSA_BITS_MIN,
        _ => false,
    }
}

/// Whether a signature by `algorithm` counts: everything but RSA with SHA-1 (RFC 8332).
pub(crate) fn is_strong(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

/// How people know a key: `SHA256:…`.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The host's ed25519 key of its seed in hexadecimal digits.
pub(crate) fn host_key(text: &[u8]) -> Option<PrivateKey> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut seed = [0; 32];
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn line(seed: u8) -> String {
        key(seed).public_key().to_openssh().unwrap()
    }

    #[test]
    fn each_line_gives_its_key_a_role_or_none() {
        let text = format!(
            "# who may\n\nadmin {} me@laptop\n  inspect   {}\n{} no role\nadmin rubbish\nroot {}\n",
            line(1),
            line(2),
            line(3),
            line(4)
        );
        let (authority, mistakes) = Authority::read(&text);
        let standing = |seed| authority.standing(key(seed).public_key());
        assert_eq!(standing(1), Standing::Has(Role::Admin));
        assert_eq!(standing(2), Standing::Has(Role::Inspect));
        assert_eq!(standing(3), Standing::NoRole);
        assert_eq!(standing(4), Standing::Unknown);
        assert_eq!(authority.len(), 2);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("line 6: ") && mistakes[1].starts_with("line 7: "));
    }

    #[test]
    fn a_key_in_two_lines_has_the_most_of_both() {
        let (authority, _) = Authority::read(&format!("inspect {0}\nadmin {0}\n{0}", line(1)));
        let standing = authority.standing(key(1).public_key());
        assert_eq!(standing, Standing::Has(Role::Admin));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let text = format!("inspect {}\n", line(1)).repeat(KEYS_MAX + 9);
        let (authority, mistakes) = Authority::read(&text);
        assert_eq!((authority.len(), mistakes.len()), (KEYS_MAX, 1));
    }

    #[test]
    fn the_host_key_is_always_the_same_for_a_seed_and_rubbish_is_none() {
        let of = |text: &str| host_key(text.as_bytes()).map(|key| fingerprint(key.public_key()));
        let seed = "0f".repeat(32);
        assert!(of(&seed).is_some());
        assert_eq!(of(&seed), of(&format!("{seed}\n")));
        for text in [
            "",
            "0f",
            &"0g".repeat(32),
            &"0f".repeat(33),
            &"ä".repeat(32),
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn sha1_signatures_do_not_count() {
        assert!(!is_strong(&Algorithm::Rsa { hash: None }));
        let hash = Some(HashAlg::Sha512);
        assert!(is_strong(&Algorithm::Rsa { hash }) && is_strong(&Algorithm::Ed25519));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(admin|inspect|ssh-ed25519|[a-zA-Z0-9+/= \n#]{0,60}|\\PC{0,20}){0,12}") {
            let (authority, mistakes) = Authority::read(&text);
            prop_assert!(authority.len() + mistakes.len() <= text.lines().count());
        }
    }
}
