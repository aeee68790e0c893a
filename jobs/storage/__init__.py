"""The files that jobs read and make, in a folder or in the database."""

from jobs.storage.folder import FileOutsideStore, Folder, StoreUnavailable
from jobs.storage.postgres import InPostgres
from jobs.storage.store import FileStore, whole

__all__ = ["FileOutsideStore", "FileStore", "Folder", "InPostgres", "StoreUnavailable", "whole"]
