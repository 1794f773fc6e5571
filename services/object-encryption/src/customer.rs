//! The proof that a client's key is the one that an object was encrypted with, without the key.
//!
//! As S3 does it: a salted keyed hash of the key is kept, from which the key cannot be found. Source:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>

use crate::{Damaged, KEY_BYTES, SALT_BYTES, Secret, derive};
use subtle::ConstantTimeEq;

/// What is kept of a customer's key.
///
/// # Errors
/// None in practice, see the derivation.
pub fn proof(key: &Secret, salt: &[u8; SALT_BYTES]) -> Result<[u8; KEY_BYTES], Damaged> {
    derive(key, salt, "trousseau customer key proof")
}

/// Whether `key` is the one of this proof. Takes the same time for every wrong key.
pub fn proves(key: &Secret, salt: &[u8; SALT_BYTES], kept: &[u8; KEY_BYTES]) -> bool {
    proof(key, salt).is_ok_and(|proof| proof.ct_eq(kept).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_with_the_same_salt_proves() {
        let (key, salt) = (Secret([1; 32]), [2; 32]);
        let Ok(kept) = proof(&key, &salt) else {
            panic!("no proof")
        };
        assert_ne!(kept, key.0);
        assert!(proves(&key, &salt, &kept));
        assert!(!proves(&Secret([3; 32]), &salt, &kept));
        assert!(!proves(&key, &[4; 32], &kept));
    }
}
