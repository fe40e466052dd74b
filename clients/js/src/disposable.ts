/** `Symbol.asyncDispose` for types, also where the chosen `lib` of TypeScript does not have it yet. */
declare global {
  interface SymbolConstructor {
    readonly asyncDispose: unique symbol;
  }
}

export {};
