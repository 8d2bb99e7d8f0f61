//! Keys of a test's own, and the tokens that they sign.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value as Json, json};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::postgres::folder;

/// Two key pairs: `ed`, of Ed25519, and `ec`, of P-256.
pub struct Keys {
    /// The file that a server is told to trust.
    pub jwks_file: PathBuf,
    /// The bytes of the public key `ed`, which are no secret.
    pub public: Vec<u8>,
    ed: Vec<u8>,
    ec: Vec<u8>,
}

impl Keys {
    /// Makes new keys and a JWKS file for them.
    pub fn new() -> Self {
        let ed = Ed25519KeyPair::generate().unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = ed.public_key().as_ref().to_vec();
        // An uncompressed point: 4, then x, then y.
        let point = ec.public_key().as_ref();
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": base64(&public)},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig",
                "x": base64(&point[1..33]), "y": base64(&point[33..65])},
        ]});
        let jwks_file = folder().join(format!("jwks-{}.json", Uuid::now_v7()));
        std::fs::write(&jwks_file, set.to_string()).unwrap();
        Self {
            jwks_file,
            public,
            ed: ed.to_pkcs8v1().unwrap().as_ref().to_vec(),
            ec: ec.to_pkcs8v1().unwrap().as_ref().to_vec(),
        }
    }

    /// What a good token claims: the service `tester`, for all tenants, for five minutes, with no
    /// scope at all.
    pub fn claims() -> Json {
        json!({
            "iss": "communication-service",
            "aud": "communication-service",
            "sub": "tester",
            "exp": now() + 300,
            "scope": "",
            "tenants": ["*"],
        })
    }

    /// Signs claims with the key `ed`.
    pub fn sign(&self, claims: &Json) -> String {
        self.sign_as(&ed_header(), claims)
    }

    /// Signs claims with the key that goes with the header's algorithm.
    pub fn sign_as(&self, header: &Header, claims: &Json) -> String {
        let key = match header.alg {
            Algorithm::EdDSA => EncodingKey::from_ed_der(&self.ed),
            Algorithm::ES256 => EncodingKey::from_ec_der(&self.ec),
            other => panic!("no key for {other:?}"),
        };
        encode(header, claims, &key).unwrap()
    }

    /// Signs a good token with some claims of its own.
    pub fn token(&self, claims: Json) -> String {
        let mut all = Self::claims();
        let (Json::Object(all_fields), Json::Object(claims)) = (&mut all, claims) else {
            panic!("claims are an object");
        };
        all_fields.extend(claims);
        self.sign(&all)
    }

    /// Metadata with a good token that has some claims of its own.
    pub fn metadata(&self, claims: Json) -> MetadataMap {
        bearer(&self.token(claims))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.jwks_file);
    }
}

/// The header of tokens of the key `ed`.
pub fn ed_header() -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("ed".to_owned());
    header
}

/// Metadata with a token.
pub fn bearer(token: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    metadata
}

/// Seconds since 1970, by the clock that the server in this process goes by.
#[expect(
    clippy::disallowed_methods,
    reason = "a token's times are stated by the clock that checks them"
)]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
