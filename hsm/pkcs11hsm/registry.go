package pkcs11hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

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
	// initialising a token, which at least SoftHSM does without a lock of its own.
	calls sync.RWMutex

	// objects has room for one: creating and destroying objects one at a time.
	objects chan struct{}

	// epoch counts initialisations; guarded by calls. Session and object handles of
	// an earlier epoch may since name something else and are not to be used.
	epoch uint64

	refs   int          // tokens open; guarded by registry.mu
	logins map[uint]int // tokens open per slot; guarded by registry.mu
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
	m := &module{path: resolved, lib: lib, ctx: ctx, objects: make(chan struct{}, 1), logins: make(map[uint]int)}
	r.modules[resolved] = m
	return m, nil
}

// attachment is one token's hold on a module.
type attachment struct {
	*module
	slot  uint // guarded by calls
	token pkcs11.TokenInfo
	// generator is crypto11's context for the token; nil where the module needs
	// initialisation arguments. Guarded by module.objects.
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
	if m.refs > 0 && m.initArgs != initArgs {
		return nil, fmt.Errorf("%w: %s is in use with other initialisation arguments", hsm.ErrModule, m.path)
	}
	m.calls.Lock()
	defer m.calls.Unlock()
	m.initArgs = initArgs
	a := &attachment{module: m}
	if m.refs == 0 {
		m.epoch++
	}
	if initArgs == "" {
		a.generator, err = m.configure(want)
	} else if m.refs == 0 {
		err = m.initialize()
	}
	if err != nil {
		return nil, err
	}
	if a.slot, a.token, err = m.selectToken(want); err != nil {
		m.finalize(a.generator)
		return nil, err
	}
	m.refs++
	m.logins[a.slot]++
	return a, nil
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
	if m.refs == 0 {
		if err := m.initialize(); err != nil {
			return nil, err
		}
		defer func() { _ = m.ctx.Finalize() }()
	}
	if _, _, why := m.selectToken(want); why != nil {
		return nil, why
	}
	return nil, fmt.Errorf("%w: %s: %v", hsm.ErrModule, m.path, err)
}

// initialize is C_Initialize with the module's arguments. Already initialised is
// as good.
func (m *module) initialize() error {
	var options []pkcs11.InitializeOption
	if m.initArgs != "" {
		// pReserved must not be Go memory that moves, and some modules keep it.
		args := cString(m.initArgs)
		options = append(options, pkcs11.InitializeWithReserved(unsafe.Pointer(args)))
	}
	err := wrap("C_Initialize", m.ctx.Initialize(options...))
	if err == nil || isCode(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return nil
	}
	var call *callError
	errors.As(err, &call)
	return fmt.Errorf("%w: %s: C_Initialize: %v", hsm.ErrModule, m.path, pkcs11.Error(call.rv))
}

// finalize gives up one use of the module. The caller holds registry.mu and calls.
func (m *module) finalize(generator *crypto11.Context) {
	if generator != nil {
		// crypto11 counts its contexts and finalises the module with the last.
		_ = generator.Close()
	} else if m.refs == 0 {
		_ = m.ctx.Finalize()
	}
}

// renewGenerator replaces crypto11's context, whose sessions cannot be replaced one
// by one. The new one is made first, or closing the old might end the module.
func (r *registry) renewGenerator(a *attachment, want selector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	renewed, err := a.configure(want)
	if err != nil {
		return err
	}
	_ = a.generator.Close()
	a.generator = renewed
	return nil
}

// reinitialize brings the module back after it was finalised or lost its device,
// and finds the token again. With force the module is finalised first, which is
// only done when no other token is open in it. No handle of before may be used
// afterwards.
func (r *registry) reinitialize(a *attachment, want selector, force bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	if force && a.refs == 1 {
		_ = a.ctx.Finalize()
	}
	if _, err := a.ctx.GetInfo(); isCode(wrap("C_GetInfo", err), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		if err := a.initialize(); err != nil {
			return err
		}
		a.epoch++
	}
	slot, info, err := a.selectToken(want)
	if err != nil {
		return err
	}
	a.logins[a.slot]--
	a.logins[slot]++
	a.slot, a.token = slot, info
	return nil
}

// detach gives up the token's hold on the module. endLogin is told whether no other
// token of this process is open in the slot: a login belongs to the process. The
// module is finalised if no other token is open in it.
func (r *registry) detach(a *attachment, endLogin func(last bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls.Lock()
	defer a.calls.Unlock()
	a.logins[a.slot]--
	endLogin(a.logins[a.slot] == 0)
	a.refs--
	a.finalize(a.generator)
	a.generator = nil
}
