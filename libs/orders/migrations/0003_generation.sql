-- Raised when other tables take the place of the projection's: whoever keeps rows in memory must forget them.
ALTER TABLE checkpoints ADD COLUMN generation integer NOT NULL DEFAULT 0;
