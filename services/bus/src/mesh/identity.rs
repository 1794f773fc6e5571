//! The node's key, and what rustls has to know of it: each side proves an Ed25519 key (RFC 8446 with the raw public keys of RFC 7250), and
//! nothing else is believed or told. One version, one suite, one group: both ends are of this program.

use super::MeshError;
use protocol::cluster::NodeKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::ring::{default_provider, kx_group::X25519, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    DistinguishedName, Error as TlsError, ServerConfig, ServerConnection, SignatureScheme,
};
use std::sync::Arc;

/// A public key in DER is this and its 32 bytes (RFC 8410, 4).
const PUBLIC_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// A private key in PKCS#8 is this and the seed (RFC 8410, 7).
const PRIVATE_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// This node as others see it in a handshake.
pub(crate) struct Identity {
    key: NodeKey,
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// From the seed of its key (RFC 8032, 5.1.5).
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self, MeshError> {
        let mut private = PRIVATE_PREFIX.to_vec();
        private.extend_from_slice(seed);
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(private))?;
        let public = signing.public_key().ok_or(MeshError::NoKey)?;
        let public = CertificateDer::from(public.as_ref().to_vec());
        let key = node_key(&public).ok_or(MeshError::NoKey)?;
        let certified = Arc::new(CertifiedKey::new(vec![public], signing));
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![X25519],
            ..default_provider()
        });
        let verifier = AnyKey {
            provider: provider.clone(),
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
                certified.clone(),
            )));
        // Nothing follows the handshake but the two frames: what the kernel or the relay takes over begins with data.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.enable_secret_extraction = true;
        Ok(Self {
            key,
            certified,
            provider,
            server: Arc::new(server),
        })
    }

    /// This node's own key.
    pub(crate) fn key(&self) -> NodeKey {
        self.key
    }

    /// The accepting side of a session. Whose key it was is to be asked afterwards.
    pub(crate) fn accept(&self) -> Result<Connection, MeshError> {
        Ok(ServerConnection::new(self.server.clone())?.into())
    }

    /// The dialling side of a session with the node of this key, and with no other.
    pub(crate) fn dial(&self, expected: NodeKey) -> Result<Connection, MeshError> {
        let verifier = OneKey {
            expected,
            provider: self.provider.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_secret_extraction = true;
        // Asked for by the library, and neither sent nor looked at.
        let name = ServerName::try_from("node").map_err(|_| MeshError::NoKey)?;
        Ok(ClientConnection::new(Arc::new(config), name)?.into())
    }
}

/// The Ed25519 key that a raw public key is, if it is one.
pub(super) fn node_key(certificate: &CertificateDer<'_>) -> Option<NodeKey> {
    let key = certificate.as_ref().strip_prefix(&PUBLIC_PREFIX)?;
    key.try_into().ok().map(NodeKey)
}

fn not_understood() -> TlsError {
    TlsError::InvalidCertificate(CertificateError::BadEncoding)
}

fn verify(
    provider: &CryptoProvider,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
    let algorithms = &provider.signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

/// Whoever comes in proves its key; whether that may do anything here is judged when it says what it wants.
#[derive(Debug)]
struct AnyKey {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        node_key(end_entity).ok_or_else(not_understood)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(not_understood())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify(&self.provider, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Only the node that was to be reached.
#[derive(Debug)]
struct OneKey {
    expected: NodeKey,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = node_key(end_entity).ok_or_else(not_understood)?;
        if found == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            let refused = CertificateError::ApplicationVerificationFailure;
            Err(TlsError::InvalidCertificate(refused))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(not_understood())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify(&self.provider, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
