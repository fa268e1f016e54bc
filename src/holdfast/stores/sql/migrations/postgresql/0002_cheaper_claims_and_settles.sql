-- A claim writes each row anew, and its entries in the indexes of numbers and ids beside the old ones: pages that are half full
-- have room for both, others are split by it. An index that is there already gets its room with the jobs that come.
ALTER INDEX {job}_pkey SET (fillfactor = 50);
ALTER INDEX {job}_id SET (fillfactor = 50);
-- What lists and retention group by is written by each statement that writes a row (`kind` in dialects/postgresql_texts.py):
-- made by the table it cost each settle a tenth, for such a row is put together twice. What is there stays as it is.
ALTER TABLE {done} ALTER COLUMN kind DROP EXPRESSION;
ALTER TABLE {done} ALTER COLUMN kind SET NOT NULL;
