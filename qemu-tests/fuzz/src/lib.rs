//! Every decoder of bytes from outside as a fuzz target: a function that takes any bytes, and seeds that are valid encodings.
//!
//! `qemu-tests/fuzz/run` builds the binary with coverage counters and runs libFuzzer on each. A target panics when a promise is
//! broken: not only on a crash, but also where what was decoded does not encode to the same, where the pieces of a stream give
//! something else than the whole, or where a refused command has changed the state.
#![forbid(unsafe_code)]

mod blocks;
mod encryption;
mod frames;
mod gossip;
mod machines;
mod manifest;
mod messages;
mod s3;
mod state;

/// One group of decoders.
pub struct Target {
    /// The crate whose decoders it calls.
    pub name: &'static str,
    /// Decodes the bytes in every way they may be meant; true if one of them accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "protocol",
        run: messages::run,
        seeds: messages::seeds,
    },
    Target {
        name: "s3-wire",
        run: s3::run,
        seeds: s3::seeds,
    },
    Target {
        name: "manifests",
        run: manifest::run,
        seeds: manifest::seeds,
    },
    Target {
        name: "membership",
        run: gossip::run,
        seeds: gossip::seeds,
    },
    Target {
        name: "object-encryption",
        run: encryption::run,
        seeds: encryption::seeds,
    },
    Target {
        name: "block-store",
        run: blocks::run,
        seeds: blocks::seeds,
    },
    Target {
        name: "metadata",
        run: state::run,
        seeds: state::seeds,
    },
    Target {
        name: "network",
        run: machines::dhcp,
        seeds: machines::dhcp_seeds,
    },
    Target {
        name: "clock",
        run: clock::fuzz::hear,
        seeds: clock::fuzz::seeds,
    },
    Target {
        name: "machine",
        run: machines::node_toml,
        seeds: machines::node_toml_seeds,
    },
    Target {
        name: "relay",
        run: relay::fuzz::open,
        seeds: relay::fuzz::seeds,
    },
];

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for (number, seed) in seeds.iter().enumerate() {
                assert!((target.run)(seed), "{} seed {number}", target.name);
            }
        }
    }

    #[test]
    fn no_cut_and_no_changed_byte_of_a_seed_breaks_a_promise() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                // At most 150 places of a seed, wherever it is longer: the fuzzer tries the others.
                for at in (0..seed.len()).step_by(seed.len() / 150 + 1) {
                    (target.run)(&seed[..at]);
                    for change in [0x01, 0x80, 0xff] {
                        let mut wounded = seed.clone();
                        wounded[at] ^= change;
                        (target.run)(&wounded);
                    }
                }
            }
        }
    }
}
