"""Who asks: which key, and for which user."""

from collections.abc import Mapping
from dataclasses import dataclass

from .config import Keys, ServeConfig
from .errors import ApiError

USER_HEADERS = ("x-genrec-user", "x-openwebui-user-id")
SIGNED_HEADER = "x-openwebui-user-jwt"
LEEWAY = 30  # seconds that the clocks of two machines may differ


@dataclass(frozen=True)
class Caller:
    """user: whom this request is for, as far as key and headers say; bound: nobody else may be asked about;
    metrics_only: nothing but the metrics may be read."""

    user: str | None = None
    bound: bool = False
    metrics_only: bool = False

    def may_see(self, user: str) -> bool:
        """Whether this caller may ask about a user."""
        return not self.bound or user == self.user

    def check(self, user: str | None, param: str | None = "user_id") -> None:
        """Raises ApiError 403 for a user that this caller may not ask about, and for asking about all."""
        if not self.bound or (user is not None and user == self.user):
            return
        whom = "all users" if user is None else f"user {user}"
        raise ApiError(
            403, f"this key may not ask about {whom}", "permission_error", param=param, code="user_not_allowed"
        )

    def user_for(self, user: str | None, has_history: bool = False) -> str | None:
        """The user whom a request is about: the one it names, else the caller's own, unless it brings a history. Raises
        as `check`."""
        user = user or (None if has_history else self.user)
        if user is not None or not has_history:
            self.check(user)
        return user


ANYBODY = Caller()


def caller_of(headers: Mapping[str, str], keys: Keys, config: ServeConfig) -> Caller:
    """Who asks; raises ApiError 401 for a missing or wrong key, or a name that is not signed as it must be.

    A header that names a user counts only if keys are configured: without them anybody could send it. Who is named
    so may ask about nobody else, unless --any-user is given.
    """
    if not keys:
        return Caller()
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else ""
    key = key or headers.get("x-api-key", "") or headers.get("api-key", "")
    if keys.opens_metrics(key):
        return Caller(bound=True, metrics_only=True)
    try:
        if not key:
            raise KeyError
        bound_user = keys.user_of(key)
    except KeyError:
        raise ApiError(
            401,
            "the API key is wrong" if key else "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            "authentication_error",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        ) from None
    if bound_user is not None:
        return Caller(bound_user, True)
    if keys.secret is not None:
        user = signed_user(headers[SIGNED_HEADER], keys.secret) if SIGNED_HEADER in headers else None
    else:
        user = next((headers[h].strip() for h in USER_HEADERS if headers.get(h, "").strip()), None)
    return Caller(user, user is not None and not config.any_user)


def signed_user(token: str, secret: str) -> str:
    """The user that Open WebUI names in a token which it signed; raises ApiError 401 for another or a late one."""
    import jwt

    try:
        claims = jwt.decode(
            token, secret, ["HS256"], {"require": ["exp", "iss", "sub"]}, issuer="open-webui", leeway=LEEWAY
        )
    except jwt.InvalidTokenError as error:
        raise ApiError(
            401, f"{SIGNED_HEADER}: {error}", "authentication_error", param=SIGNED_HEADER, code="invalid_user_token"
        ) from None
    return str(claims["sub"])
