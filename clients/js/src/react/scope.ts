// The provider of a field, and how components find it.
import { connect, createElement, useContext, useMemo, type FunctionComponentElement, type ProviderProps, type ReactNode } from "./imports.js";
import { over, still } from "../still.js";
import type { Field, Options } from "../types.js";
import { useLease } from "./lease.js";
import { FieldContext, type Scope } from "./shared.js";

/** Either a `field` that the caller opens and closes, or the `url` and `options` of one that this provider does. */
export type FieldProviderProps = {
  /** The text of `dehydrate()`, which the server rendered with. */
  initial?: string | undefined;
  children?: ReactNode;
} & ({ field: Field<any>; url?: undefined; options?: undefined } | { field?: undefined; url: string | readonly string[]; options?: Options | undefined });

/**
 * Gives a field to the hooks below it.
 *
 * Providers with the same URL and options share one client; functions in the options do not count, those of the first
 * provider are used. It closes a second after the last one was unmounted.
 */
export function FieldProvider({ field, url, options, initial, children }: FieldProviderProps): FunctionComponentElement<ProviderProps<Scope | undefined>> {
  const own = useLease("field", connect, url, options);
  const used = field ?? own;
  const scope = useMemo(() => {
    const server = still(initial);
    // On the server nothing connects, and what was given is all there is.
    return { field: used ?? (server as Field), server, initial, shown: over(used, server, initial) };
  }, [used, initial]);
  return createElement(FieldContext.Provider, { value: scope }, children);
}

/** @throws Error outside of a provider. */
export function useScope(): Scope {
  const scope = useContext(FieldContext);
  if (!scope) throw new Error("no <FieldProvider>");
  return scope;
}

/** The field of the provider around this component. On the server it has what is read, and nothing else. */
export function useField<F extends Field<any> = Field>(): F {
  return useScope().field as F;
}
