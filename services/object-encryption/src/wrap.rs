//! Data keys under a master key.
//!
//! The key that wraps is derived from the master key and the object's salt, so that it is used once and needs no nonce: a master key can wrap
//! any number of data keys. The bucket is bound in: a wrapped key that is moved to an object of another bucket does not open.

use crate::{Damaged, KEY_BYTES, SALT_BYTES, Secret, derive};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of a wrapped data key.
pub const WRAPPED_BYTES: usize = KEY_BYTES + 16;

fn wrapping_key(master: &Secret, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, Damaged> {
    let key = derive(master, salt, "trousseau data key wrap")?;
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| Damaged)?;
    Ok(LessSafeKey::new(key))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The data key of an object of `bucket` that has `salt`, as it may lie on a disk.
///
/// # Errors
/// None in practice: the lengths are right.
pub fn wrap(
    master: &Secret,
    salt: &[u8; SALT_BYTES],
    bucket: u64,
    data_key: &Secret,
) -> Result<Vec<u8>, Damaged> {
    let mut wrapped = data_key.0.to_vec();
    wrapping_key(master, salt)?
        .seal_in_place_append_tag(nonce(), Aad::from(bucket.to_be_bytes()), &mut wrapped)
        .map_err(|_| Damaged)?;
    Ok(wrapped)
}

/// The data key out of what [`wrap`] made.
///
/// # Errors
/// [`Damaged`] for another master key, salt or bucket, and for other bytes.
pub fn unwrap(
    master: &Secret,
    salt: &[u8; SALT_BYTES],
    bucket: u64,
    wrapped: &[u8],
) -> Result<Secret, Damaged> {
    let mut bytes = wrapped.to_vec();
    let opened = wrapping_key(master, salt)?
        .open_in_place(nonce(), Aad::from(bucket.to_be_bytes()), &mut bytes)
        .map_err(|_| Damaged)?;
    <[u8; KEY_BYTES]>::try_from(&*opened)
        .map(Secret)
        .map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn a_wrapped_key_opens_where_it_was_wrapped_and_nowhere_else() {
        let (master, key, salt) = (Secret([1; 32]), Secret([2; 32]), [3; 32]);
        let wrapped = wrap(&master, &salt, 7, &key).unwrap();
        assert_eq!(wrapped.len(), WRAPPED_BYTES);
        assert_eq!(unwrap(&master, &salt, 7, &wrapped), Ok(key));
        assert_eq!(unwrap(&master, &salt, 8, &wrapped), Err(Damaged));
        assert_eq!(unwrap(&master, &[4; 32], 7, &wrapped), Err(Damaged));
        assert_eq!(unwrap(&Secret([5; 32]), &salt, 7, &wrapped), Err(Damaged));
        for at in 0..wrapped.len() {
            let mut bent = wrapped.clone();
            *bent.get_mut(at).unwrap() ^= 1;
            assert_eq!(unwrap(&master, &salt, 7, &bent), Err(Damaged), "byte {at}");
            assert_eq!(
                unwrap(&master, &salt, 7, wrapped.get(..at).unwrap()),
                Err(Damaged)
            );
        }
    }
}
