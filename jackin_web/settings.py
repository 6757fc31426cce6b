"""Everything that differs between installations, read from the environment; the defaults are the strict ones."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import DisallowedHost

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# ── This instance ────────────────────────────────────────────────────────────────────────────────
JACKIN_INSTANCE: str = env.str("JACKIN_INSTANCE", default="jackin")
JACKIN_PORT: int = env.int("JACKIN_PORT", default=8000)
JACKIN_DATA: str = env.str(
    "JACKIN_DATA",
    default="/var/lib/jackin-web" if JACKIN_INSTANCE == "jackin" else f"/var/lib/jackin-web-{JACKIN_INSTANCE}",
)
JACKIN_ENGINE_SOCKET: str = env.str("JACKIN_ENGINE_SOCKET", default=f"{JACKIN_DATA}/run-root/docker.sock")
JACKIN_BROKER_SOCKET: str = env.str("JACKIN_BROKER_SOCKET", default=f"{JACKIN_DATA}/run-root/broker.sock")
JACKIN_GUARD_SOCKET: str = env.str("JACKIN_GUARD_SOCKET", default=f"{JACKIN_DATA}/run-root/guard.sock")
JACKIN_ARCHIVER_SOCKET: str = env.str("JACKIN_ARCHIVER_SOCKET", default=f"{JACKIN_DATA}/run-root/archiver.sock")
JACKIN_FEED_SOCKET: str = env.str("JACKIN_FEED_SOCKET", default=f"{JACKIN_DATA}/run-root/terminals-feed.sock")
JACKIN_RUNNER_SOCKET: str = env.str("JACKIN_RUNNER_SOCKET", default=f"{JACKIN_DATA}/run-web/runner.sock")
JACKIN_TERMINALS_SOCKET: str = env.str("JACKIN_TERMINALS_SOCKET", default=f"{JACKIN_DATA}/run-web/terminals.sock")
JACKIN_EXTRA_CA: str = env.str("JACKIN_EXTRA_CA", default="")
JACKIN_PUBLISHED_CONSTRUCT: bool = env.bool("JACKIN_PUBLISHED_CONSTRUCT", default=False)
JACKIN_INSECURE_HTTP: bool = env.bool("JACKIN_INSECURE_HTTP", default=False)
JACKIN_TLS: bool = env.bool("JACKIN_TLS", default=False)
JACKIN_MAX_AGENTS: int = env.int("JACKIN_MAX_AGENTS", default=32)  # live agents of one person
JACKIN_KEEP_LOGS_DAYS: int = env.int("JACKIN_KEEP_LOGS_DAYS", default=30)  # output of operations that have ended
JACKIN_KEEP_OPERATIONS_DAYS: int = env.int("JACKIN_KEEP_OPERATIONS_DAYS", default=365)  # their rows and steps

# ── Django ───────────────────────────────────────────────────────────────────────────────────────
# No default: Django refuses to sign anything with an empty key. `serve` passes it to the processes that need it.
SECRET_KEY: str = env.str("JACKIN_SECRET_KEY", default="")
DEBUG: bool = env.bool("JACKIN_DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("JACKIN_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

ROOT_URLCONF = "jackin_web.urls"
ASGI_APPLICATION = "jackin_web.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = env.str("TZ", default="UTC") or "UTC"
USE_TZ = True
USE_I18N = False

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_htmx",
    "agents.apps.AgentsConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "agents.web.walls.HeadersMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.common.CommonMiddleware",
    "agents.web.walls.OneCookieMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "agents.web.walls.OwnSessionMiddleware",
    "agents.web.walls.SameOriginMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "agents.web.middleware.PrivatePagesMiddleware",
    "agents.web.middleware.MustChangePasswordMiddleware",
    "agents.web.middleware.OperationErrorMiddleware",
    "axes.middleware.AxesMiddleware",  # last: it turns a refused login into its answer
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "agents.web.context.frame",
            ],
        },
    }
]

# ── Database ─────────────────────────────────────────────────────────────────────────────────────
# cell_size_check: whoever has taken over the pages can write any bytes into the file, and the runner reads them.
# IMMEDIATE: a transaction that reads and then writes takes its lock at once, instead of failing half way.
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "jackin_web.database",
        "NAME": env.str("JACKIN_DATABASE", default=str(BASE_DIR / "db.sqlite3")),
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA cell_size_check=ON; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}

# ── Who may log in ───────────────────────────────────────────────────────────────────────────────
AUTH_USER_MODEL = "agents.User"
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "agents.operations.accounts.OneTimeAwareBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Everybody comes from 127.0.0.1 here: an address says nothing, so failures count per account and the wait grows.
AXES_HANDLER = "agents.operations.login_delay.GrowingDelayHandler"
AXES_LOCKOUT_PARAMETERS = ["username"]
SILENCED_SYSTEM_CHECKS = ["axes.W006"]  # it wants addresses counted
AXES_LOCKOUT_CALLABLE = "agents.web.auth.locked_out"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = datetime.timedelta(hours=24)  # how long failures are remembered; the wait is GrowingDelayHandler's
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True  # our audit events say who logged in
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "password", "new_password1", "new_password2", "old_password"]

# ── Cookies and headers ──────────────────────────────────────────────────────────────────────────
# Cookies ignore ports: the instance is in the name, so that two services on one host do not log each other out; and a
# mark of its key, so that those of two machines do not which a browser reaches as ports of localhost (`ssh -L`).
_COOKIE_MARK = hashlib.sha256(b"cookies of " + SECRET_KEY.encode()).hexdigest()[:8]
_COOKIE_PREFIX = f"{'__Host-' if JACKIN_TLS else ''}{JACKIN_INSTANCE}-{_COOKIE_MARK}"
SESSION_COOKIE_NAME = f"{_COOKIE_PREFIX}-session"
SESSION_COOKIE_AGE = 12 * 60 * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = JACKIN_TLS
CSRF_COOKIE_NAME = f"{_COOKIE_PREFIX}-csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SECURE = JACKIN_TLS
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}

# ── Static files ─────────────────────────────────────────────────────────────────────────────────
STATIC_URL = "/static/"
STATIC_ROOT = env.str("JACKIN_STATIC", default=str(BASE_DIR / "staticfiles"))
# Only `dist`, which the front-end build leaves, is served; `src` and `css` are its input.
STATICFILES_DIRS = [("dist", BASE_DIR / "static" / "dist")] if (BASE_DIR / "static" / "dist").is_dir() else []
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"},
}

# ── Logs: standard error only, every character visible ───────────────────────────────────────────
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "wrong_host": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: not (record.exc_info and isinstance(record.exc_info[1], DisallowedHost)),
        },
    },
    "formatters": {
        "line": {
            "()": "agents.operations.text.VisibleFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["wrong_host"]},
    },
    "root": {"handlers": ["stderr"], "level": env.str("JACKIN_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        "axes": {"level": "WARNING"},
    },
}
