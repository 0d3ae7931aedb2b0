-- The second version: a request may end as saved (4), when its answer was given again. Then nothing was used, and its row says
-- what would have been, and what that is worth.

ALTER TABLE ending DROP CONSTRAINT ending_how_check;
ALTER TABLE ending ADD CONSTRAINT ending_how_check CHECK (how IN (1, 2, 3, 4));
