/** What runs in the thread that looks at filters: a pure function. */
import { answerQuestions } from './asked-thread.ts';
import { type FilterQuestion, type FilterReport, reportFilter } from './filter/explain-details.ts';

answerQuestions<FilterQuestion, FilterReport>(async (question) => reportFilter(question));
