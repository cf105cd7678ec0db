/**
 * One thing that is wrong with a value somebody gave us: which field, why, and what to write instead.
 * Checks return lists of these, so that every wrong field is told at once; they never throw.
 */
export type Problem = {
  /** Where in the given document: `url`, `filter`, `schedule.start`; empty for the document itself. */
  readonly path: string;
  /** Stable, for programs: `url_placeholder_missing`. */
  readonly code: string;
  /** A sentence for people that says what to write instead. */
  readonly message: string;
  /** 0-based offset into the text of the field, where the rule is about a place in it. */
  readonly position?: number;
};

/** Something that is allowed and probably not meant. Never stops a save. */
export type Warning = Pick<Problem, 'path' | 'message' | 'position'>;
