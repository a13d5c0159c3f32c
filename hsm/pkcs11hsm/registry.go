package pkcs11hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// registry holds the PKCS#11 modules of this process, by real path. It is the one
// piece of package-level state, and there is no way around it: C_Initialize and
// C_Finalize act on the process, so tokens of one module must share a count, and
// closing one must not finalise the module under another.
//
// Entries stay when the last token closes: the library remains loaded, because
// many modules crash when they are unloaded.
type registry struct {
	mu      sync.Mutex // held while modules are initialised and finalised
	modules map[string]*module
}

var modules = registry{modules: make(map[string]*module)}

// module is one loaded module. Its initialisation belongs to crypto11, which does
// not tolerate another owner, except where the module needs initialisation
// arguments, which crypto11 cannot pass.
type module struct {
	path     string
	initArgs string // of the current initialisation
	lib      *library
	ctx      *pkcs11.Ctx

	// calls is held for reading by every call into the module, and for writing by
	// what must be alone in it: initialising, finalising, and listing slots or
	// initialising a token, which at least SoftHSM does without a lock of its own;
	// and logging in, so that who finds itself logged in knows it was all the time.
	calls sync.RWMutex

	// objects has room for one: creating and destroying objects one at a time.
	objects chan struct{}

	// epoch counts initialisations; guarded by calls. Session and object handles of
	// an earlier epoch may since name something else and are not to be used.
	epoch uint64

	attached map[*attachment]struct{} // tokens open; guarded by registry.mu
}

// load finds or makes the entry of a module. The caller holds r.mu.
func (r *registry) load(path string) (*module, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: no path of a module", hsm.ErrModule)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", hsm.ErrModule, path, err)
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", hsm.ErrModule, path, err)
	}
	if m, ok := r.modules[resolved]; ok {
		return m, nil
	}
	lib, err := loadLibrary(resolved)
	if err != nil {
		return nil, err
	}
	ctx := pkcs11.New(resolved)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s: it cannot be opened", hsm.ErrModule, resolved)
	}
	m := &module{path: resolved, lib: lib, ctx: ctx, objects: make(chan struct{}, 1),
		attached: make(map[*attachment]struct{})}
	r.modules[resolved] = m
	return m, nil
}

// attachment is one token's hold on a module.
type attachment struct {
	*module
	want  selector
	slot  uint // guarded by calls
	token pkcs11.TokenInfo
	// generator is crypto11's context for the token; nil where the module needs
	// initialisation arguments. Guarded by calls.
	generator *crypto11.Context
}

// attach initialises the module if nobody has, and finds the token.
func (r *registry) attach(path, initArgs string, want selector) (*attachment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.load(path)
	if err != nil {
		return nil, err
	}
	if len(m.attached) > 0 && m.initArgs != initArgs {
		return nil, fmt.Errorf("%w: %s is in use with other initialisation arguments", hsm.ErrModule, m.path)
	}
	m.calls.Lock()
	defer m.calls.Unlock()
	if len(m.attached) == 0 {
		m.initArgs = initArgs
		m.epoch++
	}
	a := &attachment{module: m, want: want}
	if err := a.connect(); err != nil {
		m.finalizeIfUnused()
		return nil, err
	}
	m.attached[a] = struct{}{}
	return a, nil
}

// connect makes the generator, where there is to be one, and finds the token. The
// caller holds registry.mu and calls.
func (a *attachment) connect() (err error) {
	if a.initArgs != "" {
		err = a.initialize()
	} else if a.generator == nil {
		a.generator, err = a.configure(a.want)
	}
	if err != nil {
		return err
	}
	if a.slot, a.token, err = a.selectToken(a.want); err != nil {
		a.closeGenerator()
	}
	return err
}

// closeGenerator gives up crypto11's context. crypto11 counts its contexts and
// finalises the module with the last. The caller holds registry.mu and calls.
func (a *attachment) closeGenerator() {
	if a.generator != nil {
		_ = a.generator.Close()
		a.generator = nil
	}
}

// configure lets crypto11 find the token and, if it is the first, initialise the
// module. crypto11 does not say why it failed in a way that code can read, so the
// reason is looked for afterwards.
func (m *module) configure(want selector) (*crypto11.Context, error) {
	config := &crypto11.Config{
		Path: m.path,
		// One session that crypto11 keeps, one that it generates keys with.
		MaxSessions: 2,
		// The login is ours: its PIN is wiped and its return code is read.
		LoginNotSupported: true,
	}
	if want.serial != "" {
		config.TokenSerial = want.serial
	} else {
		config.TokenLabel = want.label
	}
	generator, err := crypto11.Configure(config)
	if err == nil {
		return generator, nil
	}
	if m.isFinalized() {
		if err := m.initialize(); err != nil {
			return nil, err
		}
		defer func() { _ = m.ctx.Finalize() }()
	}
	if _, _, why := m.selectToken(want); why != nil {
		return nil, why
	}
	return nil, fmt.Errorf("%w: %s: %w: %v", hsm.ErrModule, m.path, errContradiction, err)
}

// initialize is C_Initialize with the module's arguments. Already initialised is
// as good.
func (m *module) initialize() error {
	var options []pkcs11.InitializeOption
	if m.initArgs != "" {
		// pReserved must not be Go memory that moves, and some modules keep it.
		args := cString(m.initArgs)
		options = append(options, pkcs11.InitializeWithReserved(args))
	}
	err := wrap("C_Initialize", m.ctx.Initialize(options...))
	if err == nil || isCode(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return nil
	}
	var call *callError
	errors.As(err, &call)
	return fmt.Errorf("%w: %s: C_Initialize: %v", hsm.ErrModule, m.path, pkcs11.Error(call.rv))
}

// isFinalized asks the module whether it has to be initialised.
func (m *module) isFinalized() bool {
	_, err := m.ctx.GetInfo()
	return isCode(wrap("C_GetInfo", err), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

// finalizeIfUnused ends the module if no token is open in it. The caller holds
// registry.mu and calls.
func (m *module) finalizeIfUnused() {
	if len(m.attached) == 0 {
		_ = m.ctx.Finalize() // crypto11 may have done it
	}
}

// renewGenerator replaces crypto11's context, whose sessions cannot be replaced one
// by one. The new one is made first, or closing the old might end the module.
func (r *registry) renewGenerator(a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	renewed, err := a.configure(a.want)
	if err != nil {
		return err
	}
	a.closeGenerator()
	a.generator = renewed
	return nil
}

// reconnect finds the token again after it or the module was lost. A module that
// was finalised is begun again; with force that is also done to one that was not,
// provided that no other token is open in it.
func (r *registry) reconnect(a *attachment, force bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	if a.isFinalized() || force && len(a.attached) == 1 {
		a.end()
	}
	return a.connect()
}

// end finalises the module, for it to be begun again. Every crypto11 context is
// closed while that cannot hit a session of the next initialisation, which may get
// the same number. Tokens see by the epoch that their handles have ended. The caller
// holds registry.mu and calls.
func (m *module) end() {
	for a := range m.attached {
		a.closeGenerator()
	}
	_ = m.ctx.Finalize()
	m.epoch++
}

// detach gives up the token's hold on the module. endLogin is told whether no other
// token of this process is open in the slot: a login belongs to the process. The
// module is finalised if no other token is open in it.
func (r *registry) detach(a *attachment, endLogin func(last bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	delete(a.attached, a)
	last := true
	for other := range a.attached {
		last = last && other.slot != a.slot
	}
	endLogin(last)
	a.closeGenerator()
	a.finalizeIfUnused()
}
