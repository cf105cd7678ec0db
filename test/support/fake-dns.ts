/** DNS in the hands of a test: each question waits until the test answers it, or is answered from a table. */
import { isIP } from 'node:net';
import type { AddressRecord, Asker, Askers } from '../../src/caller/dns-asker.ts';

export type FakeQuestion = {
  readonly name: string;
  readonly family: 4 | 6;
  readonly nameserver: string | undefined;
  /** With those of its family. */
  answer(...addresses: readonly string[]): void;
  fail(code: string): void;
};

export class FakeDns implements Askers {
  /** All that were asked, in order. */
  readonly questions: FakeQuestion[] = [];
  /** Askers that were opened and not ended. */
  inUse = 0;
  /** Seconds, of every answer. */
  ttl = 60;
  /** What to do with a question at once; undefined leaves it waiting. */
  onQuestion: ((question: FakeQuestion) => void) | undefined;

  open(nameserver: string | undefined): Asker {
    this.inUse += 1;
    let isEnded = false;
    return {
      ask: (name, family) => {
        const { promise, resolve, reject } = Promise.withResolvers<readonly AddressRecord[]>();
        const fail = (code: string) => reject(Object.assign(new Error(`query ${code} ${name}`), { code }));
        const answer = (...addresses: readonly string[]) => {
          const ofFamily = addresses.filter((address) => isIP(address) === family);
          if (ofFamily.length === 0) fail('ENODATA');
          else resolve(ofFamily.map((address) => ({ address, ttl: this.ttl })));
        };
        const question: FakeQuestion = { name, family, nameserver, answer, fail };
        this.questions.push(question);
        this.onQuestion?.(question);
        return promise;
      },
      end: () => {
        if (!isEnded) this.inUse -= 1;
        isEnded = true;
      },
    };
  }

  close(): void {}

  /** Names that were asked for, one entry for each question about IPv4. */
  get asked(): string[] {
    return this.questions.filter(({ family }) => family === 4).map(({ name }) => name);
  }

  /** From now on each name has these addresses; one that is not there does not exist. */
  answerFrom(table: Readonly<Record<string, readonly string[]>>): void {
    const names = new Map(Object.entries(table));
    this.onQuestion = (question) => {
      const addresses = names.get(question.name);
      if (addresses === undefined) question.fail('ENOTFOUND');
      else question.answer(...addresses);
    };
  }
}
