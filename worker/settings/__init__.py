"""Settings: those of the engine, and the project in a folder that extends them."""

from worker.settings.engine import LogFormat, LogLevel, Settings, SettingsError, SettingsMissing, is_loopback, refuse

__all__ = ["LogFormat", "LogLevel", "Settings", "SettingsError", "SettingsMissing", "is_loopback", "refuse"]
