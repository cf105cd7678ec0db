/** Settings as flags of a command, made from the one table of settings. */
import type { Command } from 'commander';
import { flagOf, processSettings, SETTINGS, type SettingName, type Settings } from '../settings.ts';

export function addSettingFlags(command: Command, names: readonly SettingName[]): Command {
  for (const name of names) {
    const { about, env, default: byDefault } = SETTINGS[name];
    const shown = byDefault === '' || byDefault === undefined ? '' : `, default ${byDefault}`;
    command.option(`${flagOf(name)} <value>`, `${about} (${env}${shown})`);
  }
  return command;
}

/** @throws StartError for a value that does not parse or an unknown variable */
export function settingsOf(command: Command): Settings {
  const options = command.opts<Record<string, unknown>>();
  const flags: Partial<Record<SettingName, string>> = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const value = options[camelCase(flagOf(name).slice(2))];
    if (typeof value === 'string') flags[name] = value;
  }
  return processSettings(flags);
}

/** As commander names the option of a flag. */
function camelCase(flag: string): string {
  return flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** What a service needs. */
export const SERVICE_SETTINGS = (Object.keys(SETTINGS) as SettingName[]).filter(
  (name) => name !== 'url' && name !== 'key',
);
