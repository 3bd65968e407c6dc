//! stub
use super::*;
pub struct HttpService;
impl HttpService {
    pub fn new(_: &str, _: bool) -> Result<Self> {
        Ok(Self)
    }
}
impl Authenticator for HttpService {
    fn validate<'a>(&'a self, _: &'a ApiKey) -> Validating<'a> {
        Box::pin(async {
            Err(crate::error::Error::new(
                crate::error::Kind::AuthenticationUnreachable,
                "stub",
            ))
        })
    }
}
