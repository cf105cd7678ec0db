/** A running service as the commands see it: JSON in, JSON out, and its problems as messages for people. */
import { StartError } from '../model/app-error.ts';
import type { Settings } from '../settings.ts';

export class ApiClient {
  readonly #address: string;
  readonly #key: string;

  constructor(address: string, key: string) {
    this.#address = address.replace(/\/+$/, '');
    this.#key = key;
  }

  /** @throws StartError with what the service said, or that it cannot be reached */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.send(method, path, body === undefined ? {} : jsonBody(body));
  }

  async send<T>(method: string, path: string, init: RequestInit & { duplex?: 'half' }): Promise<T> {
    const url = `${this.#address}${path}`;
    const headers = {
      authorization: `Bearer ${this.#key}`,
      ...(init.headers as Record<string, string> | undefined),
    };
    let response: Response;
    try {
      response = await fetch(url, { ...init, method, headers });
    } catch (error) {
      const cause = (error as { cause?: Error }).cause ?? (error as Error);
      throw new StartError(`${this.#address} cannot be reached: ${cause.message || String(cause)}.`);
    }
    const text = await response.text();
    if (!response.ok)
      throw new StartError(`${method} ${path} answered ${response.status}: ${detailOf(text)}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }
}

export function jsonBody(value: unknown): RequestInit {
  return { body: JSON.stringify(value), headers: { 'content-type': 'application/json' } };
}

/** Where the service is and who we are to it, from the settings. */
export function apiClient(settings: Settings): ApiClient {
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  const address = settings.url === '' ? `http://${host}:${settings.port}` : settings.url;
  const key = settings.key === '' ? settings.adminKey : settings.key;
  if (key === '') throw new StartError('No API key: set ORDERHOOK_KEY or give --key.');
  return new ApiClient(address, key);
}

function detailOf(text: string): string {
  try {
    const { detail, errors } = JSON.parse(text) as {
      detail?: string;
      errors?: { path: string; message: string }[];
    };
    const fields = (errors ?? []).map(({ path, message }) => `\n  ${path}: ${message}`).join('');
    return `${detail ?? text}${fields}`;
  } catch {
    return text;
  }
}
