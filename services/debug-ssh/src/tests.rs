//! What OpenSSH's client does not even try, by russh's: passwords, questions, keys without end. The rest is in `qemu-tests/test_debug_ssh.py`.

use crate::admission::Admission;
use crate::authority::{self, Authority};
use crate::console::Console;
use crate::gate::{Gate, LOGIN_WITHIN};
use crate::person::Person;
use crate::{House, transport};
use protocol::Channel;
use runtime::Bus;
use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::task::LocalSet;

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let expected = host_key();
        Ok(
            matches!(shown, PublicKeyOrCertificate::PublicKey { key, .. }
            if key.key_data() == expected.public_key().key_data()),
        )
    }
}

fn host_key() -> PrivateKey {
    authority::host_key("5a".repeat(32).as_bytes()).unwrap()
}

fn key(seed: u8) -> PrivateKeyWithHashAlg {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    PrivateKeyWithHashAlg::new(Arc::new(key), None)
}

/// A client at the door of a node that knows the key of seed 1, as admin.
async fn connect() -> client::Handle<Anybody> {
    let known = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
    let line = format!("admin {}", known.public_key().to_openssh().unwrap());
    let (bus, _) = Channel::pair().unwrap();
    let house = Arc::new(House {
        node: "n1".into(),
        authority: Authority::read(&line).0,
        console: Console::new(Bus::new(bus).unwrap()),
        admission: Arc::new(Admission::default()),
    });
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let peer = ([127, 0, 0, 1], 40_000).into();
    let place = house.admission.admit([127, 0, 0, 1].into(), Instant::now());
    let opened = Arc::new(AtomicBool::new(false));
    let gate = Gate::new(theirs, opened.clone(), LOGIN_WITHIN);
    let person = Person::new(house, peer, place.unwrap(), opened);
    let config = Arc::new(transport::config(host_key()));
    tokio::spawn(async move {
        if let Ok(session) = russh::server::run_stream(config, gate, person).await {
            let _ = session.await;
        }
    });
    let config = Arc::new(client::Config::default());
    client::connect_stream(config, ours, Anybody).await.unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn passwords_and_questions_open_nothing_and_only_keys_remain() {
    run(async {
        let mut client = connect().await;
        let AuthResult::Failure {
            remaining_methods, ..
        } = client
            .authenticate_password("root", "secret")
            .await
            .unwrap()
        else {
            panic!("a password opened the door");
        };
        assert_eq!(&remaining_methods[..], [russh::MethodKind::PublicKey]);
        let asked = client
            .authenticate_keyboard_interactive_start("root", None)
            .await
            .unwrap();
        assert!(matches!(
            asked,
            KeyboardInteractiveAuthResponse::Failure { .. }
        ));
        assert!(client.channel_open_session().await.is_err());
    });
}

#[test]
fn the_right_key_opens_also_after_a_wrong_one() {
    run(async {
        let mut client = connect().await;
        let wrong = client.authenticate_publickey("root", key(2)).await.unwrap();
        assert!(!wrong.success());
        let right = client.authenticate_publickey("root", key(1)).await.unwrap();
        assert!(right.success());
        assert!(client.channel_open_session().await.is_ok());
    });
}

#[test]
fn a_connection_that_shows_keys_without_end_is_ended() {
    run(async {
        let mut client = connect().await;
        let mut shown = 0;
        for seed in 2..100 {
            match client.authenticate_publickey("root", key(seed)).await {
                Ok(result) => assert!(!result.success()),
                Err(_) => break,
            }
            shown += 1;
        }
        assert!(shown < 10, "{shown} keys were looked at");
    });
}
