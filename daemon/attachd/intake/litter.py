"""Names that browsers, sync programs, file servers and editors leave in folders, and that nobody means to attach. Only data.

Each pattern is for one name, upper and lower case alike, and has one star at most, or one at both ends. A name is listed
where its origin is known and a file that somebody means to attach is not called so; ``docs/files.md`` shows the list.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """Names of one origin. *sources* are where they are described; documents link them."""

    title: str
    patterns: tuple[str, ...]
    sources: tuple[str, ...]


_NEXTCLOUD = "https://github.com/nextcloud/desktop/blob/master/sync-exclude.lst"
_GITIGNORE = "https://github.com/github/gitignore/blob/main/Global"

GROUPS = (
    Group(
        "Unfinished downloads and transfers",
        (
            *("*.part", "*.partial", "*.tmp", "*.crdownload", "*.crswap", "*.opdownload", "*.download", "*.filepart"),
            *("*.aria2", "*.!qB", "*.!ut", "*.!bt", "*.bc!", "*.fdmdownload", "*.xltd", "*.part.met", "*.ytdl"),
            *("*.lftp-pget-status", ".pureftpd-upload.*", ".in.*"),
        ),
        (
            "https://fileinfo.com/extension/part",
            "https://fileinfo.com/extension/crdownload",
            "https://aria2.github.io/manual/en/html/technical-notes.html",
            "https://winscp.net/eng/docs/resume",
            "https://github.com/jedisct1/pure-ftpd/blob/master/src/ftpd.h",
        ),
    ),
    Group(
        "Streams of NTFS and macOS that became files",
        (
            *("*:Zone.Identifier", "*.Zone.Identifier", "*:$DATA", "*:AFP_AfpInfo", "*:AFP_Resource", "*:com.apple.*"),
            *("*:com.dropbox.*", "*:SmartScreen", "*:encryptable", "*:OECustomProperty", "*:WofCompressedData"),
        ),
        (
            "https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-fscc/6e3f7352-d11c-4d76-8c39-2516a9df36e8",
            "https://www.samba.org/samba/docs/current/man-html/vfs_streams_xattr.8.html",
            "https://www.samba.org/samba/docs/current/man-html/vfs_fruit.8.html",
        ),
    ),
    Group(
        "macOS",
        (
            *(".DS_Store", "._*", "Icon\r", "__MACOSX", ".AppleDouble", ".AppleDB", ".AppleDesktop", ".apdisk"),
            *(".fseventsd", ".Spotlight-V100", ".Trashes", ".TemporaryItems", ".DocumentRevisions-V100", "*.sb-*"),
            *("Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "TheFindByContentFolder"),
        ),
        (f"{_GITIGNORE}/macOS.gitignore", _NEXTCLOUD),
    ),
    Group(
        "Windows",
        (
            *("Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$RECYCLE.BIN", "RECYCLER"),
            *("System Volume Information", "DfsrPrivate"),
        ),
        (f"{_GITIGNORE}/Windows.gitignore",),
    ),
    Group(
        "Linux and file servers",
        (
            *("lost+found", ".Trash-*", ".nfs*", ".fuse_hidden*", ".smbdelete*", ".goutputstream-*", ".recycle"),
            *("@eaDir", "@tmp", "#recycle", "*@SynoEAStream", "*@SynoResource", ".SynologyWorkingDirectory"),
            *("@Recycle", "@Recently-Snapshot", "@__thumb", ".@__thumb", "~snapshot", ".snapshot", "#snapshot", ".zfs"),
        ),
        (
            "http://nfs.sourceforge.net/#faq_d2",
            "https://www.samba.org/samba/docs/current/man-html/vfs_recycle.8.html",
            "https://kb.synology.com/en-global/DSM/help/DSM/AdminCenter/file_share_create?version=7",
            f"{_GITIGNORE}/Linux.gitignore",
        ),
    ),
    Group(
        "Sync programs",
        (
            *("._sync_*", ".sync_*", ".owncloudsync.log*", ".nextcloudsync.log*", ".csync_journal.db*"),
            *(".dropbox", ".dropbox.attr", ".dropbox.cache", ".849C9593-D756-4E56-8D6E-42412F2A707B"),
            *(".stfolder", ".stversions", ".stignore", ".syncthing.*", "~syncthing~*", ".sync", "*.!sync", "*.bts"),
            *("*.SyncPart", "*.SyncTemp", "*.SyncOld", "*.ffs_db", "*.ffs_lock", "*.ffs_tmp", ".tmp.driveupload"),
            *(".tmp.drivedownload", ".~tmp~", ".unison.*"),
        ),
        (
            _NEXTCLOUD,
            "https://docs.syncthing.net/users/versioning.html",
            "https://docs.resilio.com/content/reference-information/what_is_.sync_directory",
            "https://freefilesync.org/manual.php?topic=all",
        ),
    ),
    Group(
        "Locks, backups and swap files of programs",
        ("~$*", "~WRL*", ".~lock*", "*.lck", "*.laccdb", "*.idlk", "*.swp", "*.kate-swp", "*~", "#*#", ".#*"),
        (
            "https://support.microsoft.com/kb/211632",
            f"{_GITIGNORE}/LibreOffice.gitignore",
            f"{_GITIGNORE}/MicrosoftOffice.gitignore",
            f"{_GITIGNORE}/Emacs.gitignore",
            f"{_GITIGNORE}/Vim.gitignore",
        ),
    ),
    Group("Everything else that is hidden", (".*",), ("https://man7.org/linux/man-pages/man1/ls.1.html",)),
)

#: Characters in place of which clients of SMB and WSL store these, because Windows allows them in no name.
_STANDING_IN = {0xF022: ":", 0xF03A: ":", 0xF00D: "\r", 0xF02A: "*"}

PATTERNS = tuple(pattern for group in GROUPS for pattern in group.patterns)


def folded(name: str) -> str:
    """Return a name as patterns are compared with it."""
    return (name if name.isascii() else name.translate(_STANDING_IN)).lower()
