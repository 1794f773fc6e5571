//! The machine's power buttons: input devices with a power key (the kernel's input-event-codes.h; evdev).

use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `KEY_POWER`.
const KEY_POWER: u16 = 116;
/// `EV_KEY`.
const EV_KEY: u16 = 1;
/// `struct input_event` on 64-bit machines: a time of 16 bytes, then type, code (u16 each) and value (i32).
const EVENT_BYTES: usize = 24;

/// All of them, opened.
#[derive(Debug)]
pub struct Buttons {
    devices: Vec<OwnedFd>,
}

impl Buttons {
    /// Opens every input device that has a power key.
    pub fn open() -> Self {
        let entries = std::fs::read_dir("/sys/class/input").into_iter().flatten();
        let devices = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let keys =
                std::fs::read_to_string(entry.path().join("device/capabilities/key")).ok()?;
            if !name.starts_with("event") || !has_key(&keys, KEY_POWER) {
                return None;
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            open(format!("/dev/input/{name}"), flags, Mode::empty()).ok()
        });
        Self {
            devices: devices.collect(),
        }
    }

    /// To wait on.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.iter().map(AsFd::as_fd)
    }

    /// Whether one was pressed since the last question. A device that was pulled out is forgotten.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.devices.retain(|device| {
            let mut events = [0; 16 * EVENT_BYTES];
            loop {
                match rustix::io::read(device, &mut events) {
                    Ok(0) => return false,
                    Ok(count) => pressed |= has_press(events.get(..count).unwrap_or_default()),
                    Err(errno) => return errno == rustix::io::Errno::AGAIN,
                }
            }
        });
        pressed
    }
}

/// Whether `keys`, a bitmap as sysfs writes it (hexadecimal words of 64 bits, the highest first), has `key`.
fn has_key(keys: &str, key: u16) -> bool {
    let word = keys.split_whitespace().rev().nth(usize::from(key / 64));
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> (key % 64) & 1 == 1)
}

fn has_press(events: &[u8]) -> bool {
    let [type_low, type_high] = EV_KEY.to_ne_bytes();
    let [code_low, code_high] = KEY_POWER.to_ne_bytes();
    let [a, b, c, d] = 1_i32.to_ne_bytes();
    let press = [type_low, type_high, code_low, code_high, a, b, c, d];
    let mut all = events.chunks_exact(EVENT_BYTES);
    all.any(|event| event.ends_with(&press))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_button_is_told_from_a_keyboard() {
        assert!(has_key("10000000000000 0", KEY_POWER)); // an ACPI power button
        assert!(!has_key("3 ff800000000 0 0 0", 1));
        assert!(!has_key("", KEY_POWER));
        assert!(!has_key("zz zz", KEY_POWER));
    }

    #[test]
    fn only_a_press_counts_and_not_the_release() {
        let event = |code: u16, value: i32| {
            let mut event = vec![7; 16];
            event.extend_from_slice(&EV_KEY.to_ne_bytes());
            event.extend_from_slice(&code.to_ne_bytes());
            event.extend_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(has_press(&[event(30, 1), event(KEY_POWER, 1)].concat()));
        assert!(!has_press(&[event(30, 1), event(KEY_POWER, 0)].concat()));
        assert!(!has_press(&event(KEY_POWER, 1)[..20]));
    }
}
