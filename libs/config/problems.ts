import { OrionError } from '../core/errors.ts';
import { configErrors } from './errors.ts';

/** One thing that is wrong: where it was written, which key, what is wrong and what is allowed. */
export interface ConfigProblem {
  /** "orion.toml:12", "environment ORION_NODE_NAME", "flag --set". */
  readonly where: string;
  /** "volumes.0.lun"; empty for the file as a whole. */
  readonly path: string;
  readonly text: string;
}

/** More are counted, not listed: a file of garbage must not flood the terminal. */
const PROBLEMS_SHOWN_MAX = 50;

export function problemLine(problem: ConfigProblem): string {
  return [problem.where, problem.path, problem.text].filter((part) => part !== '').join(': ');
}

/** Everything that is wrong with a configuration, at once. */
export class ConfigProblems extends OrionError {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const spec = configErrors.specs.CONFIG_INVALID;
    const shown = problems.slice(0, PROBLEMS_SHOWN_MAX).map(problemLine);
    const more = problems.length - shown.length;
    if (more > 0) shown.push(`... and ${more} more`);
    super({
      code: 'CONFIG_INVALID',
      message: shown.join('\n'),
      outcome: spec.outcome,
      hint: spec.hint,
    });
    this.problems = problems;
  }

  /** One line each; the last one says what to do. */
  override describe(): string {
    const count = this.problems.length;
    return `${this.message}\n${count} problem${count === 1 ? '' : 's'} in the configuration. ${this.hint}`;
  }
}
