// The waves of the bus: its provider, and the hook that listens.
import { bus as open, createElement, useContext, useEffect, useState, type FunctionComponentElement, type ProviderProps, type ReactNode } from "./imports.js";
import type { Bus, BusOptions, Heard, ListenOptions } from "../bus-types.js";
import { useLease } from "./lease.js";
import { BusContext } from "./shared.js";

/** Either a `bus` that the caller opens and closes, or the `url` and `options` of one that this provider does. */
export type BusProviderProps = { children?: ReactNode } & (
  | { bus: Bus; url?: undefined; options?: undefined }
  | { bus?: undefined; url: string | readonly string[]; options?: BusOptions | undefined }
);

/** Gives a bus to the hooks below it. Providers with the same URL and options share one, as with fields. */
export function BusProvider({ bus, url, options, children }: BusProviderProps): FunctionComponentElement<ProviderProps<Bus | undefined>> {
  const own = useLease("bus", open, url, options);
  return createElement(BusContext.Provider, { value: bus ?? own }, children);
}

/** The bus of the provider; `undefined` without one, and on the server. */
export function useBus(): Bus | undefined {
  return useContext(BusContext);
}

export interface WavesOptions extends Omit<ListenOptions, "signal"> {
  /** How many waves are kept; the oldest go first. Default: 100. */
  limit?: number | undefined;
}

export interface Waves<P> {
  /** The newest last. */
  readonly waves: readonly Heard<P>[];
  /** How many were lost since the component was mounted. */
  readonly missed: number;
  /** Why the subscription has ended. */
  readonly error?: unknown;
}

const NONE: Waves<never> = { waves: [], missed: 0 };

/** The last waves of a pattern, such as `orders.>`, since the component was mounted. None on the server. */
export function useWaves<P = unknown>(pattern: string, { limit = 100, ...filter }: WavesOptions = {}): Waves<P> {
  const bus = useBus();
  const of = JSON.stringify([pattern, filter]);
  const [[heardOf, heard], hear] = useState<readonly [string, Waves<P>]>([of, NONE]);
  useEffect(() => {
    if (!bus) return undefined;
    const listening = bus.listen<P>(pattern, filter);
    let now: Waves<P> | undefined = NONE;
    const show = (change: Partial<Waves<P>>): void => {
      if (now) hear([of, (now = { ...now, ...change })]);
    };
    const read = async (): Promise<void> => {
      for await (const wave of listening) if (now) show({ waves: [...now.waves, wave].slice(-limit), missed: now.missed + wave.missed });
    };
    read().catch((error: unknown) => show({ error }));
    return () => {
      now = undefined;
      void listening.return();
    };
  }, [bus, of, limit]);
  return heardOf === of ? heard : NONE;
}
