package coalesce

import (
	"fmt"

	"github.com/keyholt/keyholt/hsm"
)

// admitted asks for admission on a worker's goroutine: a panic in there is the
// failure of one request.
func admitted(admit func() error) (err error) {
	finished := false
	defer func() {
		if !finished {
			err = panicked("admission", recover())
		}
	}()
	err = admit()
	finished = true
	return err
}

// panicked turns what recover returned into an error; nil is runtime.Goexit. Values
// of other types than error and string are not printed: they might hold secrets.
func panicked(where string, value any) error {
	switch v := value.(type) {
	case nil:
		return fmt.Errorf("%w: %s ended its goroutine", hsm.ErrUnavailable, where)
	case error:
		return fmt.Errorf("%w: panic in %s: %v", hsm.ErrUnavailable, where, v)
	case string:
		return fmt.Errorf("%w: panic in %s: %s", hsm.ErrUnavailable, where, v)
	default:
		return fmt.Errorf("%w: panic in %s: %T", hsm.ErrUnavailable, where, v)
	}
}
