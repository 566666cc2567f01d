//! Request methods and response codes.

use std::fmt;

/// The code of a message: a class of three bits and a detail of five.
///
/// [RFC 7252 §12.1](https://www.rfc-editor.org/rfc/rfc7252.html#section-12.1). Codes that are not
/// named here are kept as they are; a response code that is not known counts by its class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

impl Code {
    /// 0.00, an empty message.
    pub const EMPTY: Self = Self::of(0, 0);
    /// 0.01
    pub const GET: Self = Self::of(0, 1);
    /// 0.02
    pub const POST: Self = Self::of(0, 2);
    /// 0.03
    pub const PUT: Self = Self::of(0, 3);
    /// 0.04
    pub const DELETE: Self = Self::of(0, 4);
    /// 0.05, [RFC 8132](https://www.rfc-editor.org/rfc/rfc8132.html).
    pub const FETCH: Self = Self::of(0, 5);
    /// 2.01
    pub const CREATED: Self = Self::of(2, 1);
    /// 2.02
    pub const DELETED: Self = Self::of(2, 2);
    /// 2.03
    pub const VALID: Self = Self::of(2, 3);
    /// 2.04
    pub const CHANGED: Self = Self::of(2, 4);
    /// 2.05
    pub const CONTENT: Self = Self::of(2, 5);
    /// 2.31
    pub const CONTINUE: Self = Self::of(2, 31);
    /// 4.00
    pub const BAD_REQUEST: Self = Self::of(4, 0);
    /// 4.01
    pub const UNAUTHORIZED: Self = Self::of(4, 1);
    /// 4.02
    pub const BAD_OPTION: Self = Self::of(4, 2);
    /// 4.03
    pub const FORBIDDEN: Self = Self::of(4, 3);
    /// 4.04
    pub const NOT_FOUND: Self = Self::of(4, 4);
    /// 4.05
    pub const METHOD_NOT_ALLOWED: Self = Self::of(4, 5);
    /// 4.06
    pub const NOT_ACCEPTABLE: Self = Self::of(4, 6);
    /// 4.08
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::of(4, 8);
    /// 4.13
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::of(4, 13);
    /// 4.15
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::of(4, 15);
    /// 4.29, [RFC 8516](https://www.rfc-editor.org/rfc/rfc8516.html).
    pub const TOO_MANY_REQUESTS: Self = Self::of(4, 29);
    /// 5.00
    pub const INTERNAL_SERVER_ERROR: Self = Self::of(5, 0);
    /// 5.01
    pub const NOT_IMPLEMENTED: Self = Self::of(5, 1);
    /// 5.02
    pub const BAD_GATEWAY: Self = Self::of(5, 2);
    /// 5.03
    pub const SERVICE_UNAVAILABLE: Self = Self::of(5, 3);
    /// 5.04
    pub const GATEWAY_TIMEOUT: Self = Self::of(5, 4);
    /// 5.05
    pub const PROXYING_NOT_SUPPORTED: Self = Self::of(5, 5);

    /// The code of this class (0 to 7) and detail (0 to 31).
    #[must_use]
    pub const fn of(class: u8, detail: u8) -> Self {
        Self(((class & 0x07) << 5) | (detail & 0x1f))
    }

    /// The class: 0 for requests, 2, 4 or 5 for responses.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The detail.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether this is a method.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.detail() != 0
    }

    /// Whether this is a response code of a class that is in use.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Whether this is a response code that says yes.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
