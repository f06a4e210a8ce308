-- The journal, version 1: the only memory and the only queue. Invariants are held here, beside the transitions, so that
-- no code can break them. Paths are bytes relative to inbox, done or failed. Times are seconds of the journal's own time
-- (``timeline.py``): since the epoch, and even, whatever the wall clock is set to. Columns ending in _boot are CLOCK_BOOTTIME, and
-- count only within the epoch (one process, one mount) of the row.

CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;

-- The journal's time, one row for each boot (``timeline.py``).
CREATE TABLE stretch (
  began  REAL PRIMARY KEY,                    -- in the journal's time
  boot   TEXT NOT NULL,                       -- the kernel's id of the boot
  offset REAL NOT NULL,                       -- the journal's time minus CLOCK_BOOTTIME
  ahead  REAL NOT NULL,                       -- the wall clock minus the journal's time, when it was marked last
  marked REAL NOT NULL                        -- the journal's time when that was
) WITHOUT ROWID;

CREATE TABLE file (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  -- Which file. Identity is (path, size, mtime_ns); dev and ino are hints within one epoch.
  path          BLOB    NOT NULL,
  generation    INTEGER NOT NULL DEFAULT 0,   -- 0: this row is what lies at the path; its own id: the path holds other content now
  size          INTEGER NOT NULL,
  mtime_ns      INTEGER NOT NULL,
  ctime_ns      INTEGER NOT NULL,
  dev           INTEGER NOT NULL,
  ino           INTEGER NOT NULL,
  epoch         INTEGER NOT NULL,
  missing       INTEGER NOT NULL DEFAULT 0,   -- complete listings in a row that did not show it
  missing_boot  REAL,                         -- when the last of these was made
  -- Where to.
  folder_key    TEXT    NOT NULL,             -- the folder's key, raised and un-aliased: done/FOLDER_KEY, failed/FOLDER_KEY
  issue          TEXT    NOT NULL,             -- the key under which the issue is known to be reached; one queue each
  name          TEXT    NOT NULL,             -- the stored name: what is sent as filename
  -- How it stands.
  state         TEXT    NOT NULL,
  since         REAL    NOT NULL,             -- in this state since
  seen_at       REAL    NOT NULL,
  quiet_boot    REAL    NOT NULL DEFAULT 0,   -- SEEN: unchanged since
  blocked       TEXT,                         -- the sentence why it cannot be taken
  due           REAL    NOT NULL DEFAULT 0,   -- not before; with its length, so that a clock that jumped holds nothing for years
  wait          REAL    NOT NULL DEFAULT 0,
  share         INTEGER NOT NULL DEFAULT 60,  -- with how many files at most it shares a request; 1: alone
  suspect_at    REAL,                         -- a journal was lost: may be attached since then (0: unknown), by an attempt that nobody remembers
  reason        TEXT,                         -- the sentence of the last answer or verdict
  -- The current or last attempt.
  tries         INTEGER NOT NULL DEFAULT 0,
  attempt       INTEGER,                      -- journal-wide sequence number of the request
  sha256        BLOB,
  author        TEXT,
  site          TEXT,
  sent_at       REAL,                         -- server's time
  sent_ctime_ns INTEGER,                      -- the file's ctime when it was opened to be sent: under another one it is read before it is moved; NULL: it is read
  -- Doubt.
  doubt_attempt INTEGER,                      -- the first doubtful attempt, and the server's time then
  doubt_at      REAL,
  looks         INTEGER NOT NULL DEFAULT 0,   -- usable looks of this round
  brief         INTEGER NOT NULL DEFAULT 0,   -- one look settles this round
  rounds        INTEGER NOT NULL DEFAULT 0,   -- rounds of doubt while sent alone
  nonsense      INTEGER NOT NULL DEFAULT 0,   -- rounds that ended in a 200 that proved nothing
  blind_since   REAL,                         -- no usable listing since
  may_be_attached INTEGER NOT NULL DEFAULT 0,
  -- Contested refusals and faults that this file's uploads raised.
  contested     INTEGER,                      -- 403 or 404, until believed
  contested_at  REAL,
  proof         TEXT    NOT NULL DEFAULT 'none' CHECK (proof IN ('none', 'account', 'operator')), -- what speaks for believing it: `Proof`
  site_faults   INTEGER NOT NULL DEFAULT 0,   -- faults in a row between which other files were accepted
  fault_attempt INTEGER,                      -- the attempt of the last of these
  -- The verdict and the move.
  attachment    TEXT,
  stored_as     TEXT,
  verdict_at    REAL,
  root          TEXT CHECK (root IN ('done', 'failed')),
  target        BLOB,
  reserved_dev  INTEGER,
  reserved_ino  INTEGER,
  note          BLOB,
  finished_at   REAL,
  lacks         TEXT,                         -- the end of its format that is missing: it waits for that, or was sent without
  -- What came back from failed, and what a person found out about it.
  note_sha256   BLOB,                         -- of the note beside it, byte for byte: only that very note is ever removed
  candidates    TEXT,                         -- ids of the attachments that a note named as possibly this file
  judged        TEXT,                         -- ids of those that a person looked at and found to be others; *: all until judged_at
  judged_at     REAL,                         -- by Jira's clock, with how far our idea of that may be off
  returned      TEXT,                         -- 'retry': the command took it back, which says nothing about its attachments
  heir          INTEGER,                      -- the row that took its doubt over when the file came back
  sent_slack    REAL,                         -- how far sent_at may be off; NULL: the server's clock was not measured
  doubt_slack   REAL,                         -- the same of doubt_at
  ground        TEXT,                         -- on what ground an attachment was credited that no answer named: content, or name, size and time

  CHECK (state IN ('SEEN', 'READY', 'SENDING', 'DOUBTFUL', 'ATTACHED', 'REFUSED', 'DONE', 'FAILED', 'WITHDRAWN')),
  CHECK (generation IN (0, id)),
  CHECK (size >= 0),
  CHECK (sha256 IS NULL OR length(sha256) = 32),
  CHECK (state <> 'SENDING' OR (attempt IS NOT NULL AND sent_at IS NOT NULL AND site IS NOT NULL)),
  CHECK (state <> 'DOUBTFUL' OR (sha256 IS NOT NULL AND doubt_at IS NOT NULL AND doubt_attempt IS NOT NULL)),
  CHECK (state NOT IN ('ATTACHED', 'DONE') OR (attachment IS NOT NULL AND verdict_at IS NOT NULL AND site IS NOT NULL)),
  CHECK (state NOT IN ('REFUSED', 'FAILED') OR (reason IS NOT NULL AND verdict_at IS NOT NULL)),
  CHECK (state IN ('ATTACHED', 'REFUSED', 'DONE', 'FAILED') OR (attachment IS NULL AND target IS NULL)),
  CHECK ((target IS NULL) = (root IS NULL)),
  CHECK (root IS NULL OR (root = 'done') = (state IN ('ATTACHED', 'DONE'))),
  CHECK ((finished_at IS NOT NULL) = (state IN ('DONE', 'FAILED', 'WITHDRAWN'))),
  CHECK (generation = 0 OR state <> 'SEEN')
);

-- One unfinished row for what lies at a path, besides those for contents that it held before.
CREATE UNIQUE INDEX file_at_path ON file (path) WHERE generation = 0 AND finished_at IS NULL;
CREATE UNIQUE INDEX file_attachment ON file (attachment, site) WHERE attachment IS NOT NULL;
-- Two files never wait for one name: what is put back after a swap could be the other's.
CREATE UNIQUE INDEX file_target ON file (root, target) WHERE target IS NOT NULL AND finished_at IS NULL;
CREATE INDEX file_inode ON file (ino, dev) WHERE finished_at IS NULL;
CREATE INDEX file_blocked ON file (state) WHERE blocked IS NOT NULL AND finished_at IS NULL;
CREATE INDEX file_seen ON file (quiet_boot) WHERE state = 'SEEN';
CREATE INDEX file_ready ON file (issue, epoch, id) WHERE state = 'READY';
CREATE INDEX file_waiting ON file (due) WHERE state = 'READY' AND due > 0;
CREATE INDEX file_ever_doubtful ON file (issue) WHERE doubt_attempt IS NOT NULL AND finished_at IS NULL;
CREATE INDEX file_sent_size ON file (folder_key, size) WHERE state IN ('SENDING', 'DOUBTFUL', 'ATTACHED', 'REFUSED');
CREATE INDEX file_detached ON file (id) WHERE generation <> 0 AND state = 'READY';
CREATE INDEX file_sending ON file (issue) WHERE state = 'SENDING';
CREATE INDEX file_doubtful ON file (due) WHERE state = 'DOUBTFUL';
CREATE INDEX file_doubtful_name ON file (issue, name, size) WHERE state = 'DOUBTFUL';
CREATE INDEX file_verdict ON file (due) WHERE state IN ('ATTACHED', 'REFUSED');
CREATE INDEX file_contested ON file (issue) WHERE contested IS NOT NULL AND state = 'READY';
CREATE INDEX file_returned ON file (folder_key, size, mtime_ns) WHERE state = 'FAILED';
CREATE INDEX file_uncertain ON file (size) WHERE may_be_attached = 1 AND state = 'FAILED';
CREATE INDEX file_accepted ON file (verdict_at, issue) WHERE attachment IS NOT NULL;
CREATE INDEX file_accepted_attempt ON file (attempt) WHERE attachment IS NOT NULL;
CREATE INDEX file_accepted_issue ON file (issue, verdict_at) WHERE attachment IS NOT NULL;
CREATE INDEX file_finished ON file (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX file_filed ON file (target, root) WHERE target IS NOT NULL AND finished_at IS NOT NULL;
CREATE INDEX file_noted ON file (note) WHERE note IS NOT NULL;
-- What people ask of the whole history, which is never short of files: of a path, of an issue, of what was taken away again.
CREATE INDEX file_path ON file (path);
CREATE INDEX file_folder_key ON file (folder_key);
CREATE INDEX file_moved_issue ON file (issue) WHERE issue <> folder_key;
CREATE INDEX file_withdrawn ON file (finished_at) WHERE state = 'WITHDRAWN';
CREATE INDEX file_unattached ON file (state, id) WHERE state IN ('FAILED', 'WITHDRAWN');

-- The transitions. SEEN rows were promised nothing and may be deleted; finished rows never change their state again.
CREATE TABLE transition (before TEXT NOT NULL, after TEXT NOT NULL, PRIMARY KEY (before, after)) WITHOUT ROWID;
INSERT INTO transition VALUES
  ('SEEN', 'READY'),          -- settled and routed
  ('SEEN', 'DOUBTFUL'),       -- its content may be attached already: an earlier failure in doubt, or a lost journal
  ('READY', 'SEEN'),          -- changed, or cannot be opened any more
  ('READY', 'SENDING'),       -- the intent, before the first byte
  ('READY', 'ATTACHED'),      -- found by the look before a repeated attempt
  ('READY', 'DOUBTFUL'),      -- it was in doubt, and another journal may have sent it again since
  ('READY', 'REFUSED'),       -- larger than the limit; a contested refusal that is believed now
  ('READY', 'WITHDRAWN'),
  ('SENDING', 'SEEN'),        -- changed while it was sent: not delivered
  ('SENDING', 'READY'),       -- not delivered
  ('SENDING', 'DOUBTFUL'),
  ('SENDING', 'ATTACHED'),
  ('SENDING', 'REFUSED'),
  ('DOUBTFUL', 'READY'),      -- looked for as often as asked, and not there
  ('DOUBTFUL', 'ATTACHED'),
  ('DOUBTFUL', 'REFUSED'),    -- may be attached, a person must look
  ('DOUBTFUL', 'WITHDRAWN'),  -- not there, and the file is gone
  ('ATTACHED', 'DONE'),
  ('REFUSED', 'FAILED');

CREATE TRIGGER file_transition BEFORE UPDATE OF state ON file
WHEN new.state <> old.state AND NOT EXISTS (SELECT 1 FROM transition WHERE before = old.state AND after = new.state)
BEGIN
  SELECT RAISE(ABORT, 'a file cannot go this way');
END;

CREATE TRIGGER file_kept BEFORE DELETE ON file WHEN old.state NOT IN ('SEEN', 'DONE', 'FAILED', 'WITHDRAWN')
BEGIN
  SELECT RAISE(ABORT, 'an unfinished file is never forgotten');
END;

-- One queue for each issue; the one served longest ago comes first. Triggers keep "ready", so that choosing an issue counts
-- no files.
CREATE TABLE issue_queue (
  issue  TEXT PRIMARY KEY,
  served INTEGER NOT NULL DEFAULT 0,          -- attempt number of its last request; 0: never
  ready  INTEGER NOT NULL DEFAULT 0,
  counted_from REAL NOT NULL DEFAULT 0        -- limits.issue_files_per_hour counts files accepted since then (`resume` sets it)
) WITHOUT ROWID;
CREATE INDEX issue_queue_turn ON issue_queue (served, issue) WHERE ready > 0;
-- Keys that two answers have shown to be another's (moved issues).
CREATE TABLE moved (
  folder_key TEXT PRIMARY KEY,
  issue  TEXT NOT NULL,
  issue_id TEXT NOT NULL DEFAULT '',          -- Jira's number of the issue, which no move changes
  checked_at REAL NOT NULL DEFAULT 0          -- when Jira last said so
) WITHOUT ROWID;

CREATE TRIGGER issue_queue_in AFTER UPDATE OF state, issue ON file WHEN new.state = 'READY' AND (old.state <> 'READY' OR old.issue <> new.issue)
BEGIN
  INSERT INTO issue_queue (issue, ready) VALUES (new.issue, 1) ON CONFLICT (issue) DO UPDATE SET ready = ready + 1;
END;
CREATE TRIGGER issue_queue_out AFTER UPDATE OF state, issue ON file WHEN old.state = 'READY' AND (new.state <> 'READY' OR old.issue <> new.issue)
BEGIN
  UPDATE issue_queue SET ready = ready - 1 WHERE issue = old.issue;
END;
CREATE TRIGGER file_starts AFTER INSERT ON file WHEN new.state <> 'SEEN'
BEGIN
  SELECT RAISE(ABORT, 'a file starts as SEEN');
END;

-- Attachment ids that a listing of the issue has shown, with the number of the last attempt before it: what was there
-- before an attempt cannot be its outcome.
CREATE TABLE listed (
  issue       TEXT    NOT NULL,
  attachment TEXT    NOT NULL,
  attempt    INTEGER NOT NULL,
  times      INTEGER NOT NULL DEFAULT 1,      -- how many listings have shown it
  PRIMARY KEY (issue, attachment)
) WITHOUT ROWID;

-- What is wrong with the world, shared by all workers.
CREATE TABLE pause (
  scope   TEXT NOT NULL CHECK (scope IN ('issue', 'project', 'endpoint', 'site', 'account', 'operator')),
  subject TEXT NOT NULL,
  kind    TEXT NOT NULL,
  reason  TEXT NOT NULL,
  cure    TEXT NOT NULL CHECK (cure IN ('time', 'probe', 'hand')),
  since   REAL NOT NULL,
  until   REAL NOT NULL,
  wait    REAL NOT NULL,
  times   INTEGER NOT NULL DEFAULT 1,
  told    REAL NOT NULL DEFAULT 0,            -- when people were last told of it
  PRIMARY KEY (scope, subject)
) WITHOUT ROWID;
-- Pauses that are over: their time does not count towards limits.give_up_days.
CREATE TABLE paused (scope TEXT NOT NULL, subject TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL);
CREATE INDEX paused_until ON paused (until);

-- Issues that accepted files and cannot be seen any more: no witnesses, until they accept another one.
CREATE TABLE struck (issue TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;

-- Folders that are no issue's: how many files wait there, and why.
CREATE TABLE unrouted (folder BLOB PRIMARY KEY, reason TEXT NOT NULL, files INTEGER NOT NULL, since REAL NOT NULL) WITHOUT ROWID;

-- How many files have ever come to which verdict, and their bytes: for metrics, which must not go down when history is forgotten.
CREATE TABLE tally (verdict TEXT PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tally VALUES ('ATTACHED', 0, 0), ('REFUSED', 0, 0), ('WITHDRAWN', 0, 0);
CREATE TRIGGER file_tally AFTER UPDATE OF state ON file
WHEN new.state IN ('ATTACHED', 'REFUSED', 'WITHDRAWN') AND new.state <> old.state
BEGIN
  UPDATE tally SET files = files + 1, bytes = bytes + new.size WHERE verdict = new.state;
END;

-- What `retry` is about to take back from failed into the inbox, written before anything moves, and gone when it is done:
-- the next process ends what a dead one began.
CREATE TABLE retry (
  file         INTEGER PRIMARY KEY,           -- the failed row
  source       BLOB NOT NULL,                 -- below failed
  wanted       BLOB NOT NULL,                 -- the path that it had in the inbox
  target       BLOB NOT NULL UNIQUE,          -- the name that was chosen for it there
  size         INTEGER NOT NULL,
  mtime_ns     INTEGER NOT NULL,
  sha256       BLOB,                          -- where it is copied: of the copy, which is whole then, under a hidden name
  reserved_dev INTEGER,                       -- where renames cannot refuse to replace: the empty file that holds the name
  reserved_ino INTEGER,
  since        REAL NOT NULL,
  newest       INTEGER NOT NULL               -- the newest row then: a later one at the target is that of this file
);

-- Files that may be attached although no row says so, after a journal was lost or restored: it makes us look once more.
-- What notes in failed say, where droppers may write; and sizes alone (sha256 is empty) of files that left before they were read.
CREATE TABLE hearsay (
  sha256 BLOB    NOT NULL,
  size   INTEGER NOT NULL,
  at     REAL,                                -- of a size: when the file left; it is forgotten a day later
  PRIMARY KEY (size, sha256)
) WITHOUT ROWID;

-- Events that hooks have not got yet, in their order; written in the transaction of what they are about, and only if there are hooks.
CREATE TABLE event (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  kind  TEXT NOT NULL,                        -- attached, failed, paused, resumed, stuck
  at    REAL NOT NULL,
  file  INTEGER,                              -- the row that it is about
  about TEXT                                  -- what else there is to tell, as JSON
);
CREATE TRIGGER file_event AFTER UPDATE OF state ON file
WHEN new.state IN ('ATTACHED', 'REFUSED') AND new.state <> old.state AND EXISTS (SELECT 1 FROM meta WHERE key = 'hooks')
BEGIN
  INSERT INTO event (kind, at, file)
  VALUES (CASE new.state WHEN 'ATTACHED' THEN 'attached' ELSE 'failed' END, new.verdict_at, new.id);
END;
