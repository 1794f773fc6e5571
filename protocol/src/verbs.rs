//! The operator's verbs: one table for the command line, the console and debug-ssh, so that all three know the same words.

use serde::{Deserialize, Serialize};

/// What a person may do to the node. Each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Look at everything but secrets.
    Inspect,
    /// Change and end everything, and see access keys.
    Admin,
}

impl Role {
    /// As it is written in front of an authorised key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Inspect, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

/// One verb, or one of its forms.
#[derive(Debug)]
pub struct Form {
    /// The first words, which tell it from the others.
    pub words: &'static [&'static str],
    /// What follows them, for people; empty if nothing does.
    pub rest: &'static str,
    /// What it does, for people; empty for a verb that help does not mention.
    pub about: &'static str,
    /// Who may say it.
    pub role: Role,
}

const fn form(
    words: &'static [&'static str],
    rest: &'static str,
    about: &'static str,
    role: Role,
) -> Form {
    Form {
        words,
        rest,
        about,
        role,
    }
}

/// All verbs, in the order of help. A form with more words stands before the one that it begins with.
pub static VERBS: &[Form] = {
    use Role::{Admin, Inspect};
    &[
        form(
            &["status"],
            "",
            "what is unsafe and what to do; what serves; what this host could not give",
            Inspect,
        ),
        form(
            &["members"],
            "",
            "the nodes of the cluster: zone, state, address, what each gives and runs",
            Inspect,
        ),
        form(
            &["services"],
            "",
            "each process: state, restarts, denied calls, why it ended last",
            Inspect,
        ),
        form(
            &["caps", "--can"],
            "A B",
            "can A ever reach B? answered from the manifests alone",
            Inspect,
        ),
        form(
            &["caps"],
            "",
            "each process: what it was given and what it really holds",
            Inspect,
        ),
        form(&["fds"], "[SERVICE]", "every open descriptor", Inspect),
        form(
            &["logs"],
            "[[--service] S] [--lines N]",
            "the last lines of all processes, or of one",
            Inspect,
        ),
        form(
            &["metrics"],
            "",
            "numbers: memory, processor time, descriptors, disk",
            Inspect,
        ),
        form(
            &["trace"],
            "SERVICE [--seconds N]",
            "what a service does: calls, descriptors, denied system calls",
            Inspect,
        ),
        form(
            &["layout", "preview"],
            "",
            "what would move and fit if the changes that wait were applied",
            Inspect,
        ),
        form(
            &["layout", "assign"],
            "NODE [--zone ZONE] [--capacity SIZE]",
            "what a node is to keep, once applied; 0: nothing",
            Admin,
        ),
        form(
            &["layout", "remove"],
            "NODE",
            "it keeps no blocks any more, once applied",
            Admin,
        ),
        form(
            &["layout", "copies"],
            "N",
            "so many copies of each block, once applied: 1, 2, 3 or 5",
            Admin,
        ),
        form(
            &["layout", "revert"],
            "",
            "the changes that wait are forgotten",
            Admin,
        ),
        form(
            &["layout", "apply"],
            "[--version N]",
            "the changes that wait are made: blocks move",
            Admin,
        ),
        form(
            &["layout"],
            "show",
            "which nodes keep how much, what moves and what waits",
            Inspect,
        ),
        form(&["shards"], "", "the shards of metadata", Inspect),
        form(
            &["invite"],
            "[--for 24h]",
            "a token by which one node may join the cluster",
            Admin,
        ),
        form(
            &["node", "revoke"],
            "NAME",
            "no node speaks with it any more, and it never comes back",
            Admin,
        ),
        form(
            &["node", "leave"],
            "NAME [--force]",
            "it belongs no more, once nothing depends on it; an invitation brings it back",
            Admin,
        ),
        form(
            &["node", "drain"],
            "NAME",
            "services and leads of shards move away from it; blocks stay",
            Admin,
        ),
        form(
            &["node", "undrain"],
            "NAME",
            "it takes services and leads of shards again",
            Admin,
        ),
        form(&["node"], "", "", Admin),
        form(
            &["key", "create"],
            "NAME [--create-buckets]",
            "a new access key",
            Admin,
        ),
        form(&["key", "list"], "", "the access keys", Admin),
        form(&["key", "delete"], "KEY", "end an access key", Admin),
        form(
            &["key", "allow"],
            "KEY --bucket B [--read] [--write] [--owner]",
            "what a key may do in a bucket",
            Admin,
        ),
        form(
            &["key", "deny"],
            "KEY --bucket B [--read] [--write] [--owner]",
            "what it may not any more",
            Admin,
        ),
        form(
            &["key", "policy"],
            "KEY [--file POLICY.json | --none]",
            "show, set or remove what a key's policy allows",
            Admin,
        ),
        form(&["key"], "", "", Admin),
        form(&["bucket", "create"], "NAME", "a new bucket", Admin),
        form(&["bucket", "list"], "", "the buckets", Inspect),
        form(
            &["bucket", "delete"],
            "NAME",
            "remove an empty bucket",
            Admin,
        ),
        form(
            &["bucket", "info"],
            "NAME",
            "a bucket: names, what it holds and may hold, web site",
            Inspect,
        ),
        form(
            &["bucket", "alias"],
            "add|remove NAME ALIAS",
            "further names of a bucket, for S3 and for web sites",
            Admin,
        ),
        form(
            &["bucket", "quota"],
            "NAME [--max-size SIZE] [--max-objects N] [--none]",
            "how much a bucket may hold",
            Admin,
        ),
        form(
            &["bucket", "website"],
            "NAME [--index KEY] [--error KEY] [--public | --none]",
            "show a bucket as a web site; --public: everybody may read it",
            Admin,
        ),
        form(&["bucket"], "", "", Admin),
        form(
            &["sweep"],
            "",
            "remove the blocks of interrupted uploads now",
            Admin,
        ),
        form(
            &["lifecycle"],
            "",
            "do now what buckets' lifecycles say",
            Admin,
        ),
        form(
            &["restart", "--rolling"],
            "",
            "all nodes, zone by zone, while the cluster serves; again: how far it is",
            Admin,
        ),
        form(
            &["restart"],
            "SERVICE",
            "end a service and start it afresh",
            Admin,
        ),
        form(
            &["reboot"],
            "",
            "stop everything in order and start the machine again",
            Admin,
        ),
        form(
            &["poweroff"],
            "",
            "stop everything in order and switch the machine off",
            Admin,
        ),
        form(&["first-key"], "", "", Admin),
    ]
};

/// The form that `words` begin with.
pub fn find(words: &[&str]) -> Option<&'static Form> {
    VERBS.iter().find(|form| words.starts_with(form.words))
}

/// All verbs in lines for people, as far as `role` may say them.
pub fn help(role: Role) -> String {
    let shown: Vec<(String, &str)> = VERBS
        .iter()
        .filter(|form| form.role <= role && !form.about.is_empty())
        .map(|form| {
            let words = format!("{} {}", form.words.join(" "), form.rest);
            (words.trim_end().to_owned(), form.about)
        })
        .collect();
    let wide = |words: &str| words.len() > COLUMN;
    shown
        .iter()
        .map(|(words, about)| match wide(words) {
            true => format!("  {words}\n  {:COLUMN$}  {about}\n", ""),
            false => format!("  {words:COLUMN$}  {about}\n"),
        })
        .collect()
}

/// Where the explanations begin.
const COLUMN: usize = 34;

/// Bytes as a person writes them: `10GiB`, `10G` (the same), `500MB` (of 1000), `4096`. `Err`: what is wrong, in words.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write for example 10GiB, 500MB or 1048576");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_can_be_found_and_the_more_special_one_comes_first() {
        for form in VERBS {
            assert!(std::ptr::eq(find(form.words).unwrap(), form), "{form:?}");
        }
        assert_eq!(
            find(&["bucket", "list"]).map(|form| form.role),
            Some(Role::Inspect)
        );
        assert_eq!(
            find(&["bucket", "steal"]).map(|form| form.role),
            Some(Role::Admin)
        );
        assert!(find(&["sh"]).is_none() && find(&[]).is_none());
    }

    #[test]
    fn help_has_no_tabs_and_shows_a_role_only_its_own_verbs() {
        let (inspect, admin) = (help(Role::Inspect), help(Role::Admin));
        assert!(
            !admin.contains('\t') && admin.contains("poweroff") && admin.contains("key create")
        );
        assert!(
            !inspect.contains("poweroff") && !inspect.contains("key") && inspect.contains("status")
        );
        assert!(!admin.contains("first-key"), "help does not mention it");
        assert!(admin.lines().all(|line| line.len() < 120));
    }
    #[test]
    fn sizes_are_read_as_people_write_them() {
        let check =
            |text: &str, expected: Option<u64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("4096", Some(4096));
        check("10GiB", Some(10 << 30));
        check("10g", Some(10 << 30));
        check("500MB", Some(500_000_000));
        check("16TiB", Some(16 << 40));
        for wrong in [
            "",
            "-1",
            "GiB",
            "1.5G",
            "1 G",
            "1X",
            "99999999999T",
            "99999999999999999999",
            "١",
        ] {
            check(wrong, None);
        }
    }
}
