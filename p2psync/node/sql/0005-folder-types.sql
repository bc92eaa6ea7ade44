-- Which type a joiner's folders get: it must hold from the moment they are adopted, also after a restart.
ALTER TABLE pairing ADD COLUMN folder_type TEXT NOT NULL DEFAULT 'sendreceive';
